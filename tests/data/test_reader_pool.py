"""Processes that read, and what becomes of the reading when they die, hang or complain."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pool_calls
import psutil
import pytest

from data.errors import InputError
from data.reader_pool import ReaderPool, ReaderStopped, TimeLimitPassed

SLOT_BYTES = 1000
# Enough for a process to start on a busy machine.
PATIENCE = 20.0


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[ReaderPool]:
    with ReaderPool(workers=2, slot_bytes=SLOT_BYTES) as pool:
        yield pool


@pytest.fixture
def pool(shared_pool: ReaderPool) -> Iterator[ReaderPool]:
    """The pool, which has to work after each test, whatever happened in it."""
    yield shared_pool
    filled = [(value, buffer.copy()) for value, buffer in shared_pool.stream(pool_calls.fill, counted(7), name="x")]
    assert [value for (value, _), _ in filled] == list(range(7))
    assert all((buffer == value).all() for (value, _), buffer in filled)


def counted(calls: int) -> list[tuple[int]]:
    return [(value,) for value in range(calls)]


def until(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true soon."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        if condition():
            return True
        time.sleep(0.05)
    return False


def alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_results_come_in_order_with_their_buffers_from_several_processes(pool: ReaderPool) -> None:
    processes = set()
    for expected, ((value, process), buffer) in enumerate(pool.stream(pool_calls.fill, counted(40), name="x")):
        assert value == expected
        assert buffer.shape == (SLOT_BYTES,)
        assert (buffer == value).all()
        processes.add(process)
    assert len(processes) == pool.workers == 2
    assert os.getpid() not in processes


def test_a_buffer_keeps_its_pixels_until_the_next_one_is_asked_for(pool: ReaderPool) -> None:
    for (value, _), buffer in pool.stream(pool_calls.fill, counted(8), name="x"):
        time.sleep(0.1)
        assert (buffer == value).all()


def test_an_empty_stream_gives_nothing(pool: ReaderPool) -> None:
    assert list(pool.stream(pool_calls.fill, [], name="x")) == []


@pytest.mark.parametrize(("kind", "error"), [("InputError", InputError), ("ForTheUser", pool_calls.ForTheUser)])
def test_an_input_error_arrives_as_it_was_raised(pool: ReaderPool, kind: str, error: type[InputError]) -> None:
    with pytest.raises(error, match=r"^slide\.svs: .*; mend it$") as caught:
        pool.run(pool_calls.complain, kind, name="x")
    assert type(caught.value) is error
    assert not getattr(caught.value, "__notes__", [])


def test_an_unexpected_error_brings_the_traceback_of_the_process(pool: ReaderPool) -> None:
    with pytest.raises(KeyError, match="what is missing") as caught:
        pool.run(pool_calls.complain, "KeyError", name="x")
    assert "in complain" in caught.value.__notes__[0]


def test_an_error_that_cannot_be_pickled_is_told_in_words(pool: ReaderPool) -> None:
    with pytest.raises(RuntimeError, match="TakesTwo: broken at 7") as caught:
        pool.run(pool_calls.complain, "TakesTwo", name="x")
    assert "in complain" in caught.value.__notes__[0]


@pytest.mark.parametrize("kind", ["lock", "function"])
def test_a_result_that_cannot_be_pickled_is_an_error_and_not_the_end_of_the_process(
    pool: ReaderPool, kind: str
) -> None:
    with pytest.raises(Exception, match="pickle") as caught:
        pool.run(pool_calls.answer_with, kind, name="x")
    assert not isinstance(caught.value, ReaderStopped)


def test_an_error_in_the_middle_ends_the_stream_at_its_place(pool: ReaderPool) -> None:
    values = []
    with pytest.raises(KeyError):
        for value, _ in pool.stream(pool_calls.attribute_of_sys, [("byteorder",), ("maxsize",), (1,)], name="x"):
            values.append(value)
            if len(values) == 2:
                raise KeyError
    assert values == [sys.byteorder, sys.maxsize]
    with pytest.raises(TypeError):
        list(pool.stream(pool_calls.attribute_of_sys, [("byteorder",), (1,), ("maxsize",)], name="x"))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("how", "told"),
    [("SIGKILL", "SIGKILL"), ("SIGSEGV", "SIGSEGV"), ("null pointer", "SIGSEGV"), ("exit", "status 7")],
)
def test_a_process_that_dies_is_reported_with_the_slide_and_replaced(pool: ReaderPool, how: str, told: str) -> None:
    with pytest.raises(ReaderStopped, match=rf"^/slides/a\.svs: the process that read it .*{told}; replace the file"):
        pool.run(pool_calls.die, how, name="/slides/a.svs")
    assert pool.workers == 2


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_process_that_died_between_two_slides_is_replaced_without_blaming_the_next(pool: ReaderPool) -> None:
    processes = {process for (_, process), _ in pool.stream(pool_calls.fill, counted(4), name="x")}
    for process in processes:
        os.kill(process, signal.SIGKILL)
    assert until(lambda: not any(alive(process) for process in processes))
    # A zombie may have threads for another moment, and cannot be waited for so long.
    time.sleep(0.3)
    assert [value for (value, _), _ in pool.stream(pool_calls.fill, counted(4), name="x")] == [0, 1, 2, 3]


def test_what_hangs_ends_at_the_deadline(pool: ReaderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.reader_pool.STOP_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(TimeLimitPassed, match=r"^/slides/a\.svs: the time limit has passed; raise --time-limit"):
        pool.run(pool_calls.hang, 60.0, name="/slides/a.svs", deadline=started + 0.5)
    assert 0.5 <= time.monotonic() - started < 3.0


def test_a_deadline_that_has_passed_stops_at_once(pool: ReaderPool) -> None:
    with pytest.raises(TimeLimitPassed):
        list(pool.stream(pool_calls.fill_slowly, counted(100), name="x", deadline=time.monotonic() - 1))


def test_a_deadline_that_is_kept_changes_nothing(pool: ReaderPool) -> None:
    calls = pool.stream(pool_calls.fill, counted(5), name="x", deadline=time.monotonic() + PATIENCE)
    assert [value for (value, _), _ in calls] == list(range(5))


def test_leaving_early_leaves_no_result_behind_for_the_next(pool: ReaderPool) -> None:
    for taken in (1, 2, 3):
        results = pool.stream(pool_calls.fill_slowly, [(100 + value,) for value in range(9)], name="x")
        assert [next(results)[0] for _ in range(taken)] == [100 + value for value in range(taken)]
        results.close()
        assert [value for (value, _), _ in pool.stream(pool_calls.fill, counted(5), name="x")] == list(range(5))


def test_a_stream_left_open_is_ended_by_the_next_and_neither_gets_results_of_the_other(pool: ReaderPool) -> None:
    left = pool.stream(pool_calls.fill_slowly, [(100 + value,) for value in range(9)], name="a.svs")
    assert next(left)[0] == 100
    after = pool.stream(pool_calls.fill, counted(9), name="b.svs")
    assert next(after)[0][0] == 0
    with pytest.raises(RuntimeError, match=r"a\.svs: reading was ended by another stream"):
        next(left)
    assert [value for (value, _), _ in after] == list(range(1, 9))


def test_at_most_two_calls_per_process_are_under_way(pool: ReaderPool, tmp_path: Path) -> None:
    asked = []

    def calls() -> Iterator[tuple[int, str]]:
        for value in range(1000):
            asked.append(value)
            yield value, str(tmp_path / "log")

    results = pool.stream(pool_calls.log_start, calls(), name="x")
    for taken in range(1, 6):
        next(results)
        time.sleep(0.05)
        # The one just yielded counts: its buffer is still in use.
        assert len(asked) <= taken - 1 + 2 * pool.workers
    results.close()
    assert len((tmp_path / "log").read_text().splitlines()) <= len(asked)


def test_processes_are_not_forked(pool: ReaderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "a_fork_would_have_this", "yes", raising=False)
    with ReaderPool(workers=1, slot_bytes=1) as other:
        assert other.run(pool_calls.attribute_of_sys, "a_fork_would_have_this", name="x") is None


def test_a_pool_may_be_closed_while_it_is_read_from(pool: ReaderPool) -> None:
    with ReaderPool(workers=1, slot_bytes=1) as other:
        results = other.stream(pool_calls.fill, counted(9), name="x")
        next(results)
    before = len(psutil.Process().children())
    # An interrupted run gets here with its streams still open.
    results.close()
    assert len(psutil.Process().children()) == before


def script(tmp_path: Path, lines: str) -> Path:
    """Write a script that makes a pool without asking whether it is the main module."""
    path = tmp_path / "script.py"
    path.write_text(
        f"import sys\nsys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}\n"
        f"import pool_calls\nfrom data.reader_pool import ReaderPool\nprint('top')\n{lines}"
    )
    return path


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "with ReaderPool(workers=2, slot_bytes=4) as pool:\n"
        "    print([value for (value, _), _ in pool.stream(pool_calls.fill, [(1,), (2,)], name='x')])\n",
    )
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.stdout.split("\n"), done.stderr) == (["top", "[1, 2]", ""], "")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("busy", [False, True])
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, busy: bool) -> None:
    path = script(
        tmp_path,
        "pool = ReaderPool(workers=2, slot_bytes=4)\n"
        "print(*{process for (_, process), _ in pool.stream(pool_calls.fill, [(1,), (2,)], name='x')}, flush=True)\n"
        + ("pool.run(pool_calls.hang, 600.0, name='x')\n" if busy else "pool_calls.hang(600.0, None)\n"),
    )
    with subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "top\n"
        processes = [int(number) for number in parent.stdout.readline().split()]
        assert len(processes) == 2
        assert all(alive(process) for process in processes)
        parent.kill()
        parent.wait()
    assert until(lambda: not any(alive(process) for process in processes))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupt_ends_a_busy_script_and_its_processes(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        # A shell starts what it runs in the background with this signal ignored.
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with ReaderPool(workers=1, slot_bytes=4) as pool:\n"
        "    results = pool.stream(pool_calls.hang, [(0.0,), (600.0,), (600.0,)], name='x')\n"
        "    print(*[process for (_, process), _ in pool.stream(pool_calls.fill, [(1,)], name='x')])\n"
        "    next(results)\n"
        "    print('waiting', flush=True)\n"
        "    next(results)\n",
    )
    with subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        found = [parent.stdout.readline().strip() for _ in range(3)]
        assert found[2] == "waiting"
        parent.send_signal(signal.SIGINT)
        try:
            _, errors = parent.communicate(timeout=PATIENCE)
        finally:
            parent.kill()
    assert "KeyboardInterrupt" in errors
    assert parent.returncode != 0
    assert until(lambda: not alive(int(found[1])))


def test_replacing_processes_does_not_use_up_memory_or_files() -> None:
    megabytes = 32
    with ReaderPool(workers=1, slot_bytes=megabytes * 2**20) as pool:
        pool.run(pool_calls.fill, 1, name="x")
        memory, files = psutil.Process().memory_info().rss, psutil.Process().num_fds() if os.name != "nt" else 0
        for _ in range(6):
            with pytest.raises(ReaderStopped):
                pool.run(pool_calls.die, "exit", name="x")
        assert pool.run(pool_calls.fill, 1, name="x")[0] == 1
        assert psutil.Process().memory_info().rss < memory + 2.5 * megabytes * 2**20
        assert os.name == "nt" or psutil.Process().num_fds() <= files + 4
