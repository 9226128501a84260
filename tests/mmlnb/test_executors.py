"""Slides shared by the devices of a machine, or by the workers of a Ray cluster, come out as one process calls them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cut_slide import CMU, cut_slide
from infer_outputs import same_results, table

from data.atomic import digest
from data.errors import InputError
from mmlnb.cli import main
from mmlnb.config import InferConfig
from mmlnb.inference import open_folder
from mmlnb.local_executor import find_devices
from mmlnb.ray_executor import longest_first
from mmlnb.ray_worker import SlideWorker
from mmlnb.slide_record import read_records

ROOT = Path(__file__).parents[2]
CLUSTER = """
import sys
import ray
from mmlnb.cli import main

if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    raise SystemExit(main(sys.argv[1:]))
"""


@pytest.fixture
def slides(real_data: Path, tmp_path: Path) -> Path:
    """Six slides: four that take a while, a small one, and a file that is none."""
    folder = tmp_path / "slides"
    (folder / "below").mkdir(parents=True)
    for name in ("a.svs", "b.svs", "below/a.svs", "c.svs"):
        shutil.copy(real_data / "slides" / CMU, folder / name)
    cut_slide(real_data, folder / "small.tiff")
    (folder / "damaged.svs").write_bytes(b"not a slide")
    return folder


def command(slides: Path, out: Path, bundle: Path, *options: str) -> list[str]:
    # With captions, two at a time, a slide takes long enough for others to come, or to be killed.
    given = ["infer", str(slides), str(out), "--bundle", str(bundle), "--hdf5", "true"]
    return [*given, "--batch-size", "2", "--checkpoint-seconds", "0", "--workers", "1", *options]


@pytest.mark.slow
def test_two_devices_share_a_folder_to_the_same_bytes(demo_run: Path, slides: Path, tmp_path: Path) -> None:
    expected, out = tmp_path / "expected", tmp_path / "out"
    assert main(command(slides, expected, demo_run / "bundle")) == 3
    given = command(slides, out, demo_run / "bundle", "--devices", "[cpu,cpu]")
    done = subprocess.run([sys.executable, "-m", "mmlnb", *given], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    same_results(out, expected)
    assert {record.attempts for record in read_records(out)} == {1}
    # The second process was at some of them: the first shows the slides that it calls itself.
    own = set(re.findall(r"  (\S+): +\d+%", done.stderr))
    assert own < {"a.svs", "b.svs", "below/a.svs", "c.svs", "small.tiff"}
    assert done.stdout.count("index.html") == 1
    assert (out / "config.yaml").read_text() == (expected / "config.yaml").read_text().replace(
        "devices: []", "devices:\n- cpu\n- cpu"
    ).replace(str(expected), str(out))


def test_without_a_word_all_gpus_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = InferConfig(slides=tmp_path, out=tmp_path)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert find_devices(config) == ["cuda:0", "cuda:1", "cuda:2"]
    assert find_devices(replace(config, device="cuda:1")) == ["cuda:1"]
    assert find_devices(replace(config, device="cpu")) == ["cpu"]
    assert find_devices(replace(config, devices=("cuda:2", "cuda:0"))) == ["cuda:2", "cuda:0"]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_devices(config) == ["auto"], "one process of several takes its own GPU"
    with pytest.raises(InputError, match="cuda:3: not on this machine"):
        find_devices(replace(config, devices=("cuda:3",)))


def test_settings_of_the_other_executor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--devices"):
        InferConfig(slides=tmp_path, out=tmp_path, executor="ray", devices=("cpu",))
    with pytest.raises(InputError, match="--executor ray"):
        InferConfig(slides=tmp_path, out=tmp_path, ray_address="auto")


def test_without_ray_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["infer", str(tmp_path), str(tmp_path / "out"), "--executor", "ray"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'mmlnb[ray]'" in said


def test_a_worker_that_sees_another_output_folder_says_so(demo_run: Path, real_data: Path, tmp_path: Path) -> None:
    cut_slide(real_data, tmp_path / "slides" / "a.tiff")
    run = open_folder(InferConfig(slides=tmp_path / "slides", out=tmp_path / "out", bundle=demo_run / "bundle"))
    worker = SlideWorker(run, mark=".mark", folder=Path.cwd(), threads=1)
    assert re.fullmatch(
        r".*out: another folder on the Ray node \S+; give an --out on .* that all nodes share", worker.check()
    )
    (tmp_path / "out" / ".mark").touch()
    assert worker.check() == ""
    shutil.rmtree(tmp_path / "slides")
    assert "slides: not on the Ray node" in worker.check()


def test_the_largest_slides_come_first(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for name, size in {"a.svs": 10, "b.svs": 30, "m.mrxs": 1, "m/data.dat": 50, "c.svs": 30}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    paths = {name: tmp_path / name for name in ("a.svs", "b.svs", "c.svs", "m.mrxs", "gone.svs")}
    assert longest_first(paths) == ["m.mrxs", "b.svs", "c.svs", "a.svs", "gone.svs"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_ray_cluster_gives_the_same_bytes_though_a_worker_is_killed_and_the_run_cut_off(
    demo_run: Path, slides: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (mmlnb[ray])")
    expected, out = tmp_path / "expected", tmp_path / "out"
    assert main(command(slides, expected, demo_run / "bundle")) == 3
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    # Ray keeps the token of its clusters in the home.
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}

    def start() -> subprocess.Popen[str]:
        with (tmp_path / "log.txt").open("a") as log:
            given = command(slides, out, demo_run / "bundle", "--executor", "ray")
            return subprocess.Popen([sys.executable, str(script), *given], env=environment, stdout=log, stderr=log)

    def until(ready: Callable[[], object]) -> None:
        end = time.monotonic() + 240
        while not ready():
            assert process.poll() is None and time.monotonic() < end, (tmp_path / "log.txt").read_text()
            time.sleep(0.02)

    def owners() -> dict[int, Path]:
        """Processes that hold a slide of which they have written a part."""
        found = {}
        for file in (out / "leases").glob("*.lease/*"):
            begun = out / "partial" / file.parent.name.removesuffix(".lease")
            try:
                if any(begun.glob("*/tiles-*.parquet")):
                    found[json.loads(file.read_text())["pid"]] = begun
            except OSError:
                continue
        return found

    process = start()
    try:
        until(owners)
        killed, begun = next(iter(owners().items()))
        os.kill(killed, signal.SIGKILL)
        assert begun.name not in {digest(record.slide) for record in read_records(out)}
        # Another process goes on with the slide.
        until(lambda: begun in {place for pid, place in owners().items() if pid != killed})
        until(lambda: len(read_records(out)) >= 3)
        process.kill()
        process.wait()
        process = start()
        assert process.wait(240) == 3, (tmp_path / "log.txt").read_text()
    finally:
        process.kill()
        process.wait()
    same_results(out, expected)
    assert table(out)["damaged.svs"]["status"] == "failed"
