"""One live owner at a time, whatever is killed, suspended or damaged."""

import errno
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

import data.lease
from data.lease import Lease, Leases, Owner

BEAT, STALE = 0.05, 0.5
SPAWN = multiprocessing.get_context("spawn")
needs_suspension = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot suspend a process by signal")


def leases(folder: Path) -> Leases:
    return Leases(folder, beat_seconds=BEAT, stale_seconds=STALE)


def silent(folder: Path) -> Leases:
    """Leases of an owner whose heartbeat does not come in the time of a test."""
    return Leases(folder, beat_seconds=1000, stale_seconds=3000)


def taken(contender: Leases, name: str) -> Lease:
    lease = contender.take(name)
    assert lease is not None
    return lease


def record(folder: Path) -> Path:
    (found,) = folder.glob("*.lease/*")
    return found


def seconds_until_taken(contender: Leases, name: str) -> float:
    begun = time.monotonic()
    while contender.take(name) is None:
        assert time.monotonic() - begun < 10, "never taken"
        time.sleep(BEAT / 5)
    return time.monotonic() - begun


def answer(pipe: Connection) -> bool:
    assert pipe.poll(30), "the owner does not answer"
    return bool(pipe.recv())


def still_held(pipe: Connection) -> bool:
    pipe.send(True)
    return answer(pipe)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def own(folder: Path, pipe: Connection) -> None:
    """Hold the lease on "slide", and answer each message with whether it is still held, until the pipe is closed."""
    with leases(folder) as mine:
        lease = taken(mine, "slide")
        pipe.send(True)
        while pipe.recv():
            pipe.send(lease.held())


@contextmanager
def owner(folder: Path) -> Iterator[tuple[int, Connection]]:
    """Start a process that holds the lease on "slide"; yield its number and the pipe to ask it."""
    pipe, other_end = SPAWN.Pipe()
    process = SPAWN.Process(target=own, args=(folder, other_end))
    process.start()
    other_end.close()
    try:
        assert answer(pipe)
        assert process.pid is not None
        yield process.pid, pipe
    finally:
        process.kill()
        process.join()


def share_the_work(folder: Path, first: int, items: int, together: Barrier) -> None:
    """Do every item that is not done yet, giving up the first try at some; note each time that two do one at once."""
    together.wait(30)
    with leases(folder / "leases") as mine:
        waiting = [f"{(first + offset) % items}" for offset in range(items)]
        while waiting:
            name = waiting.pop(0)
            done, busy, tried = (folder / f"{name}.{kind}" for kind in ("done", "busy", "tried"))
            if done.exists():
                continue
            lease = mine.take(name)
            if lease is None:
                waiting.append(name)
                continue
            with lease:
                if done.exists():
                    continue
                try:
                    busy.touch(exist_ok=False)
                except FileExistsError:
                    (folder / f"{name}.twice").touch()
                    return
                if int(name) % 2 or tried.exists():
                    with done.open("a") as file:
                        file.write("done\n")
                else:
                    tried.touch()
                    waiting.append(name)
                busy.unlink()


def test_many_processes_do_each_item_once_and_one_at_a_time(tmp_path: Path) -> None:
    items = 40
    together = SPAWN.Barrier(3)
    processes = [SPAWN.Process(target=share_the_work, args=(tmp_path, first, items, together)) for first in (0, 0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert not list(tmp_path.glob("*.twice"))
    assert [(tmp_path / f"{item}.done").read_text() for item in range(items)] == ["done\n"] * items
    assert not list((tmp_path / "leases").iterdir())


def test_of_two_contenders_for_a_dead_lease_one_gets_it(tmp_path: Path) -> None:
    taken(silent(tmp_path), "slide")
    contenders = [leases(tmp_path), leases(tmp_path)]
    deadline = time.monotonic() + 2 * STALE
    won: list[Lease] = []
    while time.monotonic() < deadline:
        won += [lease for contender in contenders if (lease := contender.take("slide"))]
        time.sleep(BEAT / 5)
    assert len(won) == 1
    assert won[0].held()
    for contender in contenders:
        contender.close()


def test_a_killed_owner_is_succeeded_at_once_even_before_its_parent_noticed(tmp_path: Path) -> None:
    with owner(tmp_path) as (pid, _), Leases(tmp_path) as contender:
        assert contender.take("slide") is None
        assert contender.holder("slide") == f"{Owner.this_process().host} {pid}"
        kill(pid)
        assert seconds_until_taken(contender, "slide") < 4


def test_a_reused_process_number_does_not_keep_a_dead_owner_alive(tmp_path: Path) -> None:
    taken(silent(tmp_path), "slide")
    path = record(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "started": "1"}))
    assert leases(tmp_path).take("slide")


def test_an_owner_on_another_machine_is_dead_only_after_the_stale_time(tmp_path: Path) -> None:
    with owner(tmp_path) as (pid, _):
        kill(pid)
    path = record(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "machine": "another"}))
    assert seconds_until_taken(leases(tmp_path), "slide") >= STALE


@pytest.mark.parametrize("content", [b"", b'{"host": "a", "pi', b"\x00\xff" * 40, b"[]", b'{"pid": 1}'])
def test_a_damaged_record_is_dead_only_after_the_stale_time(tmp_path: Path, content: bytes) -> None:
    first = silent(tmp_path)
    lease = taken(first, "slide")
    record(tmp_path).write_bytes(content)
    contender = leases(tmp_path)
    assert contender.holder("slide") == "unknown"
    assert seconds_until_taken(contender, "slide") >= STALE
    assert not lease.held()


def test_an_owner_that_beats_keeps_its_lease_beyond_the_stale_time(tmp_path: Path) -> None:
    with leases(tmp_path) as first, leases(tmp_path) as contender:
        lease = taken(first, "slide")
        deadline = time.monotonic() + 3 * STALE
        while time.monotonic() < deadline:
            assert contender.take("slide") is None
            time.sleep(BEAT / 5)
        assert lease.held()


def test_an_owner_that_beats_between_the_last_look_and_the_taking_keeps_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = taken(silent(tmp_path), "slide")
    contender = leases(tmp_path)
    for _ in range(2):
        assert contender.take("slide") is None
        time.sleep(STALE)
    assert contender._dead(record(tmp_path).parent, frozenset([record(tmp_path).name]))
    look = data.lease._files
    beat = iter([lease.held])

    def look_and_be_late(place: Path) -> frozenset[str]:
        seen = look(place)
        for held in beat:
            assert held()
        return seen

    monkeypatch.setattr(data.lease, "_files", look_and_be_late)
    assert contender.take("slide") is None
    assert lease.held()


def test_a_contender_that_slept_does_not_judge_by_its_own_sleep(tmp_path: Path) -> None:
    lease = taken(silent(tmp_path), "slide")
    contender = leases(tmp_path)
    assert contender.take("slide") is None
    time.sleep(2 * STALE)
    assert contender.take("slide") is None
    assert lease.held()


@needs_suspension
def test_a_suspended_owner_learns_that_it_was_succeeded_and_disturbs_nobody(tmp_path: Path) -> None:
    with owner(tmp_path) as (pid, pipe), leases(tmp_path) as contender:
        assert still_held(pipe)
        os.kill(pid, signal.SIGSTOP)
        assert seconds_until_taken(contender, "slide") >= STALE - 2 * BEAT
        mine = record(tmp_path).name.partition(".")[0]
        os.kill(pid, signal.SIGCONT)
        assert not still_held(pipe)
        time.sleep(3 * BEAT)
        assert record(tmp_path).name.startswith(mine)
        contender.close()
        time.sleep(3 * BEAT)
        assert not list(tmp_path.iterdir()), "the owner that woke brought its record back"


@needs_suspension
def test_an_owner_that_was_suspended_briefly_keeps_its_lease(tmp_path: Path) -> None:
    with owner(tmp_path) as (pid, pipe), leases(tmp_path) as contender:
        os.kill(pid, signal.SIGSTOP)
        assert contender.take("slide") is None
        time.sleep(STALE / 2)
        os.kill(pid, signal.SIGCONT)
        assert still_held(pipe)
        assert contender.take("slide") is None


def test_a_late_release_of_a_lost_lease_leaves_the_successor_alone(tmp_path: Path) -> None:
    lost = taken(silent(tmp_path), "slide")
    record(tmp_path).unlink()
    with leases(tmp_path) as contender:
        lease = taken(contender, "slide")
        lost.release()
        assert not lost.held()
        assert lease.held()


def test_a_heartbeat_that_fails_is_not_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with leases(tmp_path) as mine:
        lease = taken(mine, "slide")

        def fail(self: Path, target: Path | None = None) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", fail)
            assert lease.held()
            patch.setattr(Path, "iterdir", fail)
            time.sleep(4 * BEAT)
        before = record(tmp_path).name
        time.sleep(4 * BEAT)
        assert record(tmp_path).name != before, "the heartbeat has ended"
        assert lease.held()


def test_names_are_paths_of_any_depth_and_length_that_do_not_meet(tmp_path: Path) -> None:
    names = ["a", "a/b.svs", "a.lease", "a.lease/b", "../a", "/a", "a\\b", "ä" * 300, "A"]
    with leases(tmp_path / "new" / "folder") as mine, leases(tmp_path / "new" / "folder") as contender:
        held = [taken(mine, name) for name in names]
        assert all(lease.held() for lease in held)
        assert [contender.take(name) for name in names] == [None] * len(names)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_lease_that_was_given_back_leaves_no_file_and_can_be_taken_again(tmp_path: Path) -> None:
    mine, contender = leases(tmp_path), leases(tmp_path)
    with taken(mine, "slide") as lease:
        assert mine.take("slide") is None
    assert not lease.held()
    assert not list(tmp_path.iterdir())
    assert contender.holder("slide") is None
    again = taken(contender, "slide")
    lease.release()
    assert again.held()
    contender.close()
    assert not list(tmp_path.iterdir())


def test_beats_that_cannot_come_in_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="three times"):
        Leases(tmp_path, beat_seconds=5, stale_seconds=10)
