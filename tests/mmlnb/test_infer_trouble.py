"""Whatever goes wrong with one slide or with the machine, the folder is finished, or can be with the same command."""

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from child_trouble import cause_trouble
from cut_slide import cut_two_slides
from infer_outputs import changed, predictions, table

import mmlnb
from mmlnb.bundles import Bundle
from mmlnb.cli import main
from mmlnb.slide_call import SlideCaller
from mmlnb.slide_record import SlideRecord
from vlm_finetune.continuous_batch import ContinuousBatch

TILES = 14


@pytest.fixture(scope="module")
def undisturbed(demo_run: Path, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a run over the slides a.tiff and b.tiff that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    slides = cut_two_slides(real_data, folder / "slides")
    settings = {"bundle": demo_run / "bundle", "caption": "none", "batch_size": 4, "hdf5": True}
    assert mmlnb.infer(slides, folder / "out", **settings) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def real_tiles(undisturbed: Path) -> list[tuple[int, int]]:
    """Corners of the tiles of a.tiff, in the order in which they are read."""
    found = predictions(undisturbed, "a.tiff")
    assert len(found) == TILES
    return list(zip(found["x"].tolist(), found["y"].tolist(), strict=True))


def test_a_slide_is_called_up_to_the_allowed_share_of_unreadable_tiles_and_not_above(
    run: Callable[..., int],
    two_slides: Path,
    real_tiles: list[tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = real_tiles[3:5]
    cause_trouble(monkeypatch, tmp_path, slide="a.tiff", kind="unreadable", at=bad)
    assert run(two_slides, tmp_path / "below", max_unreadable=2 / TILES, batch_size=4) == 0
    row = table(tmp_path / "below")["a.tiff"]
    assert (row["status"], row["unreadable"], row["patches"]) == ("ok", "2", str(TILES - 2))
    assert "2 tiles cannot be read" in row["reason"]
    tiles = pd.read_parquet(tmp_path / "below" / "tiles" / "a.tiff.parquet")
    listed = tiles[tiles["reason"] == "unreadable"]
    assert list(zip(listed["x"], listed["y"], strict=True)) == bad
    assert listed["error"].str.contains("a.tiff: cannot read at").all()
    assert not tiles.loc[tiles["reason"] == "used", "error"].notna().any()

    assert run(two_slides, tmp_path / "above", max_unreadable=2 / TILES - 0.01) == 3
    rows = table(tmp_path / "above")
    assert (rows["a.tiff"]["status"], rows["b.tiff"]["status"]) == ("failed", "ok")
    assert f"a.tiff: 2 of {TILES} tiles cannot be read (14%, allowed 13%)" in rows["a.tiff"]["reason"]
    assert not (tmp_path / "above" / "predictions" / "a.tiff.parquet").exists()


def test_a_reader_that_dies_fails_its_slide_only_and_a_retry_goes_on_where_it_was(
    run: Callable[..., int],
    two_slides: Path,
    undisturbed: Path,
    real_tiles: list[tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, settings = tmp_path / "out", {"batch_size": 4, "workers": 1}
    with monkeypatch.context() as patch:
        cause_trouble(patch, tmp_path, slide="a.tiff", kind="crash", at=[real_tiles[-1]])
        assert run(two_slides, out, **settings) == 3
    rows = table(out)
    assert (rows["a.tiff"]["status"], rows["b.tiff"]["status"]) == ("failed", "ok")
    assert "a.tiff: the process that read it ended with status 17" in rows["a.tiff"]["reason"]
    (part,) = (out / "partial").rglob("*.parquet")
    assert 4 <= pq.read_metadata(part).num_rows < TILES

    assert run(two_slides, out, **settings) == 3, "failed slides are left alone unless asked for"
    assert table(out) == rows
    before = changed(out, "b.tiff")
    assert run(two_slides, out, retry_failed=True, **settings) == 0
    assert table(out)["a.tiff"]["attempts"] == "2"
    assert changed(out, "b.tiff") == before
    for kind in ("predictions/a.tiff.parquet", "tiles/a.tiff.parquet", "geojson/a.tiff.geojson"):
        assert (out / kind).read_bytes() == (undisturbed / kind).read_bytes()
    assert not (out / "partial").exists()


def test_a_slide_whose_decoder_hangs_is_failed_at_the_time_limit(
    run: Callable[..., int],
    two_slides: Path,
    real_tiles: list[tuple[int, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (two_slides / "b.tiff").unlink()
    with monkeypatch.context() as patch:
        cause_trouble(patch, tmp_path, slide="a.tiff", kind="hang", at=[real_tiles[-1]])
        started = time.monotonic()
        assert run(two_slides, tmp_path / "out", time_limit=0.05, batch_size=4) == 3
        assert time.monotonic() - started < 30
    reason = table(tmp_path / "out")["a.tiff"]["reason"]
    assert "a.tiff: the time limit has passed; raise --time-limit and go on with --retry-failed" in reason
    assert run(two_slides, tmp_path / "out", retry_failed=True, batch_size=4) == 0


def after_loading(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """Have the bundle's captioner loaded, and tried on noise, before `change` is made."""
    load = Bundle.captioner

    def captioner(bundle: Bundle, **settings: Any) -> Any:
        found = load(bundle, **settings)
        change()
        return found

    monkeypatch.setattr(Bundle, "captioner", captioner)


@pytest.mark.parametrize("where", ["image tower", "fusion", "captioning"])
def test_batches_halve_where_memory_runs_out_and_the_calls_stay(
    run: Callable[..., int], two_slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    settings = {"caption": "all" if where == "captioning" else "none", "batch_size": 8}
    assert run(two_slides / "a.tiff", tmp_path / "undisturbed", **settings) == 0
    sizes: list[int] = []

    def check(count: int) -> None:
        sizes.append(count)
        if count > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    if where == "captioning":
        step = ContinuousBatch._step

        def small(self: ContinuousBatch[Any]) -> Any:
            check(len(self.rows))
            return step(self)

        after_loading(monkeypatch, lambda: monkeypatch.setattr(ContinuousBatch, "_step", small))
    else:
        load = Bundle.predictor

        def predictor(bundle: Bundle, *, device: str) -> Any:
            found = load(bundle, device=device)
            if where == "image tower":
                found.model.image_tower.register_forward_pre_hook(lambda _, inputs: check(len(inputs[0])))
            else:
                found.model.register_forward_pre_hook(
                    lambda _, inputs, named: check(len(named["image"])), with_kwargs=True
                )
            return found

        monkeypatch.setattr(Bundle, "predictor", predictor)
    assert run(two_slides / "a.tiff", tmp_path / "out", **settings) == 0
    assert sizes[:3] == [8, 4, 2]
    assert max(sizes[3:]) == 2, "the size that fitted is kept"
    expected, found = (predictions(tmp_path / name, "a.tiff") for name in ("undisturbed", "out"))
    assert found["text"].tolist() == expected["text"].tolist()
    numbers = [name for name in expected if name.startswith(("p_", "image_p_")) or name == "gate"]
    np.testing.assert_allclose(found[numbers], expected[numbers], atol=1e-5)
    assert table(tmp_path / "out")["a.tiff"]["subtype"] == table(tmp_path / "undisturbed")["a.tiff"]["subtype"]


def test_a_patch_that_is_too_much_for_the_memory_fails_the_slide_and_says_so(
    run: Callable[..., int], two_slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    after_loading(monkeypatch, lambda: monkeypatch.setattr(ContinuousBatch, "_step", full))
    assert run(two_slides, tmp_path / "out", caption="all") == 3
    assert {row["status"] for row in table(tmp_path / "out").values()} == {"failed"}
    assert "out of memory with one patch at a time" in table(tmp_path / "out")["b.tiff"]["reason"]


@pytest.mark.parametrize("where", ["table", "record", "hdf5"])
def test_a_full_disk_ends_the_run_in_one_line_and_the_same_command_finishes_it(
    undisturbed: Path,
    demo_run: Path,
    two_slides: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    out = tmp_path / "out"
    command = ["infer", str(two_slides), str(out), "--bundle", str(demo_run / "bundle"), "--caption", "none"]
    command += ["--hdf5", "true", "--batch-size", "4"]
    with monkeypatch.context() as patch:
        if where == "table":
            write_table = pq.write_table

            def write(rows: Any, path: Path, **named: Any) -> None:
                if "b.tiff" in path.name:
                    path.write_bytes(b"PAR1")
                    raise OSError("[Errno 28] Error writing bytes to file. Detail: No space left on device")
                write_table(rows, path, **named)

            patch.setattr(pq, "write_table", write)
        elif where == "record":
            replace = Path.replace

            def move(path: Path, target: Path) -> Path:
                if target.name == "b.tiff.json":
                    raise OSError(errno.ENOSPC, "No space left on device", str(target))
                return replace(path, target)

            patch.setattr(Path, "replace", move)
        else:

            def features(*_: object, **__: object) -> None:
                raise RuntimeError("Can't close file (errno = 28, error message = 'No space left on device')")

            patch.setattr("mmlnb.slide_outputs._features", features)
        capsys.readouterr()
        assert main(command) == 2
    done = 0 if where == "hdf5" else 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "mmlnb infer: error" in line]
    assert len(errors) == 1
    assert f"{out}: the disk is full; {done} of 2 slides are done and intact; make room" in errors[0]
    if done:
        assert list(table(out)) == ["a.tiff"]
        before = changed(out, "a.tiff")
    assert main(command) == 0
    assert not done or changed(out, "a.tiff") == before
    for slide in ("a.tiff", "b.tiff"):
        pd.testing.assert_frame_equal(predictions(out, slide), predictions(undisturbed, slide))
    assert not list(out.rglob(".*"))


def test_summary_and_table_are_current_while_the_next_slide_is_worked_on(
    run: Callable[..., int], two_slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    seen: list[str] = []
    call = SlideCaller.call

    def look(caller: SlideCaller, path: Path, name: str, *others: Any) -> SlideRecord | None:
        until = time.monotonic() + 10
        while f"- {name} (" not in (summary := (out / "summary.md").read_text(encoding="utf-8")):
            assert time.monotonic() < until, summary
            time.sleep(0.05)
        seen.append(summary)
        assert list(table(out)) == [f"{letter}.tiff" for letter in "ab"[: len(seen) - 1]]
        return call(caller, path, name, *others)

    monkeypatch.setattr(SlideCaller, "call", look)
    assert run(two_slides, out) == 0
    assert seen[0].startswith("# 0 of 2 slides done")
    assert f"- a.tiff ({socket.gethostname()} {os.getpid()})" in seen[0]
    assert seen[1].startswith("# 1 of 2 slides done")
    assert "1 called, 0 failed, 0 skipped, 1 to do." in seen[1]
    assert "about" in seen[1]
    final = (out / "summary.md").read_text(encoding="utf-8")
    assert final.startswith("# 2 of 2 slides done")
    assert "In work" not in final
