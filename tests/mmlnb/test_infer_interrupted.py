"""Killed at any moment and started again, or shared by several processes, a folder gives the same results."""

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cut_slide import CMU, cut_slide
from infer_outputs import predictions, same_results

from data.lease import Lease, Leases
from mmlnb.cli import main
from mmlnb.slide_call import SlideCaller
from mmlnb.slide_record import SlideRecord, read_records

needs_kill = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


class Folder:
    """A folder of slides, and the processes that are started on it."""

    def __init__(self, place: Path, bundle: Path, *options: str) -> None:
        self.slides, self.place, self.bundle, self.options = place / "slides", place, bundle, options
        self.slides.mkdir(parents=True, exist_ok=True)
        self.processes: list[subprocess.Popen[bytes]] = []

    def command(self, out: Path) -> list[str]:
        settings = {"bundle": self.bundle, "hdf5": "true", "batch-size": 2, "checkpoint-seconds": 0}
        named = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        return ["infer", str(self.slides), str(out), *named, *self.options]

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        with self.log(len(self.processes)).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mmlnb", *self.command(out)], stdout=log, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process

    def log(self, process: int) -> Path:
        return self.place / f"process-{process}.log"

    def called(self, process: int) -> set[str]:
        """Slides whose patches the process began to work on, by its progress bars."""
        return set(re.findall(r"  (\S+): +\d+%", self.log(process).read_text(encoding="utf-8")))


@pytest.fixture
def folder(demo_run: Path, tmp_path: Path) -> Iterator[Folder]:
    found = Folder(tmp_path, demo_run / "bundle", "--caption", "none")
    yield found
    for process in found.processes:
        process.kill()
        process.wait()


def parts(out: Path) -> dict[Path, int]:
    """Every part inside a slide, with its time of change."""
    found = {}
    for path in (out / "partial").rglob("tiles-*.parquet"):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue  # its slide has just ended
    return found


def first_rows(found: dict[Path, int]) -> dict[Path, list[int]]:
    rows: dict[Path, list[int]] = {}
    for path in sorted(found):
        rows.setdefault(path.parent, []).append(int(path.stem.removeprefix("tiles-")))
    return rows


def wait_for_work(folder: Folder, process: subprocess.Popen[bytes], out: Path, before: dict[Path, int]) -> None:
    """Wait until the process has written a part, or has ended."""
    until = time.monotonic() + 120
    while process.poll() is None and not parts(out).keys() - before.keys():
        assert time.monotonic() < until, folder.log(folder.processes.index(process)).read_text(encoding="utf-8")
        time.sleep(0.01)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process alone; its readers have to notice."""
    readers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(readers, timeout=10)[1], "readers outlive the process they read for"


def interrupt(folder: Folder, out: Path, delays: list[float]) -> int:
    """Start and kill once per delay (seconds of work); return how many processes took up a slide that was begun."""
    taken_up = 0
    for delay in delays:
        before = parts(out)
        process = folder.start(out)
        wait_for_work(folder, process, out, before)
        time.sleep(delay)
        assert process.poll() in (None, 0)
        kill(process)
        after = parts(out)
        assert all(before[path] == after[path] for path in before.keys() & after.keys()), "a part was written twice"
        known, now = first_rows(before), first_rows(after)
        for slide in known.keys() & now.keys():
            new = set(now[slide]) - set(known[slide])
            assert all(row > max(known[slide]) for row in new), "rows were computed twice"
        taken_up += any(path not in after for path in before) or any(now.get(s) != known[s] for s in known)
    return taken_up


@needs_kill
def test_killed_and_started_again_it_goes_on_inside_the_slide_to_the_same_bytes(
    folder: Folder, real_data: Path
) -> None:
    for name in ("a/x.svs", "b/x.svs", "c.svs"):
        (folder.slides / name).parent.mkdir(exist_ok=True)
        shutil.copy(real_data / "slides" / CMU, folder.slides / name)
    (folder.slides / "damaged.svs").write_bytes(b"not a slide")
    out = folder.place / "out"
    delay = random.Random(2024).uniform(0, 1.0)
    assert interrupt(folder, out, [0.1, delay]) == 1
    # The third to be killed has company, which is left with everything.
    killed, other = folder.start(out), folder.start(out)
    until = time.monotonic() + 120
    while not (folder.called(2) and folder.called(3)):
        assert time.monotonic() < until
        assert (killed.poll(), other.poll()) == (None, None), folder.log(2).read_text() + folder.log(3).read_text()
        time.sleep(0.01)
    kill(killed)
    assert other.wait(120) == 3, folder.log(3).read_text(encoding="utf-8")
    assert main(folder.command(folder.place / "undisturbed")) == 3
    same_results(out, folder.place / "undisturbed")


@needs_kill
@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--caption", "fraction=0.5", "--borrow", "nearest")])
def test_a_dozen_kills_at_any_moment_change_nothing(options: tuple[str, ...], folder: Folder, real_data: Path) -> None:
    folder.options = options
    for name in "abcd":
        shutil.copy(real_data / "slides" / CMU, folder.slides / f"{name}.svs")
    assert main(folder.command(folder.place / "undisturbed")) == 0
    out = folder.place / "out"
    chance = random.Random(7)
    for _ in range(6):
        # Also while libraries are loaded, models are read and leases are taken.
        process = folder.start(out)
        time.sleep(chance.uniform(0, 15))
        kill(process)
    assert interrupt(folder, out, [chance.uniform(0, 2.0) for _ in range(6)]) >= 3
    assert main(folder.command(out)) == 0
    same_results(out, folder.place / "undisturbed")


def test_two_processes_share_a_folder_and_do_no_slide_twice(folder: Folder, real_data: Path) -> None:
    for number in range(10):
        cut_slide(real_data, folder.slides / f"{number}.tiff")
    (folder.slides / "damaged.tiff").write_bytes(b"not a slide")
    out = folder.place / "out"
    both = [folder.start(out) for _ in range(2)]
    assert [process.wait(120) for process in both] == [3, 3], folder.log(0).read_text() + folder.log(1).read_text()
    done = [folder.called(0), folder.called(1)]
    assert not done[0] & done[1]
    assert done[0] | done[1] == {f"{number}.tiff" for number in range(10)}
    assert all(done), "one of them did nothing"
    assert {record.attempts for record in read_records(out)} == {1}
    failures = [folder.log(number).read_text(encoding="utf-8").count("damaged.tiff: failed") for number in range(2)]
    assert sum(failures) == 1
    assert (out / "summary.md").read_text(encoding="utf-8").startswith("# 11 of 11 slides done")
    assert (out / "index.html").read_text(encoding="utf-8").count(".tiff.html") == 10
    assert len(list((out / "predictions").glob("*.parquet"))) == 10
    assert not (out / "partial").exists()


@needs_kill
@pytest.mark.slow
def test_a_slide_that_another_process_holds_is_waited_for(folder: Folder, real_data: Path) -> None:
    cut_slide(real_data, folder.slides / "a.tiff")
    out = folder.place / "out"
    holder = folder.start(out)
    wait_for_work(folder, holder, out, {})
    holder.send_signal(signal.SIGSTOP)
    waiting = folder.start(out)
    until = time.monotonic() + 120
    while "waiting for" not in folder.log(1).read_text(encoding="utf-8"):
        assert time.monotonic() < until
        assert waiting.poll() is None
        time.sleep(0.05)
    holder.send_signal(signal.SIGCONT)
    assert [holder.wait(60), waiting.wait(60)] == [0, 0]
    assert folder.called(0) == {"a.tiff"}
    assert folder.called(1) == set()


def test_a_process_that_lost_its_lease_leaves_the_successors_files_alone_and_comes_back_for_the_slide(
    run: Callable[..., int], two_slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    take = Leases.take
    lost: list[str] = []

    class Lost(Lease):
        def held(self) -> bool:
            return False

    def lose_the_first(leases: Leases, name: str) -> Lease | None:
        lease = take(leases, name)
        if lease is None or lost:
            return lease
        lost.append(name)
        # What a successor has written while this process was suspended.
        for kind in ("predictions", "tiles"):
            (out / kind).mkdir(parents=True)
        monkeypatch.setattr("mmlnb.slide_call.remove_outputs", lambda *_: None)
        (out / "predictions" / "a.tiff.parquet").write_bytes(b"of the successor")
        lease.__class__ = Lost
        return lease

    monkeypatch.setattr(Leases, "take", lose_the_first)
    call = SlideCaller.call
    ended: list[tuple[str, bool]] = []

    def watch(caller: SlideCaller, path: Path, name: str, *others: Any) -> SlideRecord | None:
        record = call(caller, path, name, *others)
        if record is None:
            assert (out / "predictions" / "a.tiff.parquet").read_bytes() == b"of the successor"
            assert not list((out / "partial").rglob("*.parquet"))
        ended.append((name, record is not None))
        return record

    monkeypatch.setattr(SlideCaller, "call", watch)
    assert run(two_slides, out, batch_size=4, checkpoint_seconds=0) == 0
    assert ended == [("a.tiff", False), ("b.tiff", True), ("a.tiff", True)]
    assert len(predictions(out, "a.tiff")) == 14
