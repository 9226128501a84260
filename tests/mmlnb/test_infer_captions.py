"""Where only some patches are described, the outputs say which, and an interrupted run ends as an undisturbed one."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import read_page
from infer_outputs import predictions, table

import mmlnb
from data.errors import InputError
from mmlnb.slide_prediction import SlidePipeline
from mmlnb.slide_record import find_record
from vlm_finetune.captioner import Captioner
from vlm_finetune.decoding import Caption

Run = Callable[..., int]
OUTPUTS = ("predictions", "tiles", "geojson")


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many patches each call of the captioner was about."""
    calls: list[int] = []
    describe = Captioner.describe

    def count(captioner: Captioner, images: Sequence[np.ndarray]) -> list[Caption]:
        calls.append(len(images))
        return describe(captioner, images)

    monkeypatch.setattr(Captioner, "describe", count)
    return calls


def test_only_the_chosen_are_described_and_every_output_says_so(
    run: Run, two_slides: Path, tmp_path: Path, described: list[int]
) -> None:
    every, some = tmp_path / "all", tmp_path / "some"
    assert run(two_slides, every, caption="all") == 0
    described.clear()
    assert run(two_slides, some, caption="fraction=0.3") == 0
    assert described == [5, 4]
    whole, rows = (predictions(out, "a.tiff").set_index("patch_id") for out in (every, some))
    assert len(rows) == 14
    own = rows[rows["captioned"]]
    assert len(own) == 5
    assert sorted(own["choice"]) == [1, 2, 3, 4, 5]
    assert (own["text_from"] == own.index).all()
    assert own["text"].to_dict() == whole.loc[own.index, "text"].to_dict()
    probabilities = [name for name in rows if name.startswith("p_")]
    np.testing.assert_allclose(own[probabilities], whole.loc[own.index, probabilities], atol=1e-4)
    others = rows[~rows["captioned"]]
    assert (others["gate"] == 0).all()
    assert others[["text", "text_from", "choice"]].isna().all(axis=None)
    assert set(rows["nearest_described"]) <= set(own.index)
    image = [name for name in rows if name.startswith("image_p_")]
    np.testing.assert_array_equal(rows[image], whole.loc[rows.index, image])
    assert table(some)["a.tiff"]["captioned"] == "5"
    record = find_record(some, "a.tiff")
    assert record is not None
    assert record.choice == "fraction=0.3, choose mix, borrow none"
    page = (some / "slides" / "a.tiff.html").read_text(encoding="utf-8")
    assert "5 of 14 patches (36%) were described (fraction=0.3, choose mix, borrow none)" in page
    assert "every share is an estimate for all 14 patches" in page
    values = json.loads((some / "slides" / "a.tiff.json").read_text(encoding="utf-8"))
    assert [point["described"] for point in values["captions"]] == [0, 1, 2, 3, 4, 5]
    called = values["record"]["subtype"]
    assert values["captions"][-1][called] == pytest.approx(values["record"]["probabilities"][called], abs=1e-6)
    shares = [one["share_of_slide"] for one in values["counts"] if one["subject"] == "By the captions alone"]
    assert sum(shares) == pytest.approx(1)
    folder = (some / "index.html").read_text(encoding="utf-8")
    assert "9 of 27 patches (33%) were described (fraction=0.3, choose mix, borrow none)" in folder
    # Nothing of a choice where there was none.
    assert "text_from" not in whole
    assert "share_of_slide" not in (every / "slides" / "a.tiff.json").read_text(encoding="utf-8")


def test_borrowed_words_are_fused_and_told_apart_from_a_patchs_own(run: Run, two_slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(two_slides / "a.tiff", out, caption="budget=3", borrow="nearest", borrow_similarity=-1) == 0
    rows = predictions(out, "a.tiff").set_index("patch_id")
    assert rows["captioned"].sum() == 3
    assert rows["text"].notna().all()
    assert (rows["text_from"] == rows["nearest_described"]).all()
    assert (rows["text"] == rows.loc[rows["text_from"], "text"].to_numpy()).all()
    assert (rows["gate"] > 0).all()
    record = find_record(out, "a.tiff")
    assert record is not None
    assert (record.captioned, record.borrowed) == (3, 11)
    page = (out / "slides" / "a.tiff.html").read_text(encoding="utf-8")
    assert "not described; called with the words of" in page
    assert "11 more were called with the words" in page
    # What a page counts as stated is what was written about that very patch.
    assert "3 of 14 patches were described." in read_page(out / "slides" / "a.tiff.html").text


def test_the_page_written_again_from_the_files_says_the_same(
    run: Run, demo_run: Path, two_slides: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run" / "infer"
    assert run(two_slides / "a.tiff", out, caption="budget=3", borrow="nearest", borrow_similarity=0.2) == 0
    shutil.copytree(demo_run / "bundle", tmp_path / "run" / "bundle")
    page, patches = out / "slides" / "a.tiff.json", out / "slides" / "a.tiff.csv"
    before, rows = json.loads(page.read_text(encoding="utf-8")), patches.read_bytes()
    patches.unlink()
    mmlnb.report(tmp_path / "run", slide_pages=True)
    after = json.loads(page.read_text(encoding="utf-8"))
    for part in ("summary", "counts"):
        assert after[part] == before[part]
    assert len(after["captions"]) == 4
    for now, then in zip(after["captions"], before["captions"], strict=True):
        # The share of tissue is kept with fewer digits.
        assert now == pytest.approx(then, abs=1e-5)
    assert patches.read_bytes() == rows


def test_a_budget_beyond_the_patches_describes_all(run: Run, two_slides: Path, tmp_path: Path) -> None:
    slide = two_slides / "a.tiff"
    assert run(slide, tmp_path / "all", caption="all") == 0
    assert run(slide, tmp_path / "budget", caption="budget=1000") == 0
    whole, rows = (predictions(tmp_path / name, "a.tiff") for name in ("all", "budget"))
    assert rows["captioned"].all()
    assert rows["text"].tolist() == whole["text"].tolist()
    assert np.allclose(rows["gate"], whole["gate"], atol=1e-4)
    counts = [
        {
            (one["subject"], one["value"]): one.get("share_of_slide", one["patches"] / one["of"])
            for one in page["counts"]
        }
        for page in (
            json.loads((tmp_path / name / "slides" / "a.tiff.json").read_text(encoding="utf-8"))
            for name in ("all", "budget")
        )
    ]
    assert counts[1] == pytest.approx(counts[0])


@pytest.mark.parametrize("after", [4, 10])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    after: int, run: Run, two_slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = two_slides / "a.tiff"
    settings: dict[str, Any] = {
        "caption": "fraction=0.5",
        "borrow": "nearest",
        "borrow_similarity": 0.0,
        "batch_size": 2,
        "checkpoint_seconds": 0,
    }
    assert run(slide, tmp_path / "undisturbed", **settings) == 0
    batches = 0

    rows = SlidePipeline._rows

    def cut_off(pipeline: SlidePipeline, *batch: Any, **how: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == after:
            raise KeyboardInterrupt
        return rows(pipeline, *batch, **how)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(SlidePipeline, "_rows", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run(slide, out, **settings)
    kept = sorted(path.name for path in (out / "partial").rglob("*.parquet"))
    assert len(kept) == after - 1
    calls = 0

    def count(pipeline: SlidePipeline, *batch: Any, **how: Any) -> Any:
        nonlocal calls
        calls += 1
        return rows(pipeline, *batch, **how)

    monkeypatch.setattr(SlidePipeline, "_rows", count)
    assert run(slide, out, **settings) == 0
    # Seven batches of all tiles and four of those described: none twice.
    assert calls + len(kept) == 11
    for kind in OUTPUTS:
        for path in (tmp_path / "undisturbed" / kind).iterdir():
            assert (out / kind / path.name).read_bytes() == path.read_bytes(), path.name
    assert not (out / "partial").exists()


def test_another_choice_is_another_run(run: Run, two_slides: Path, tmp_path: Path) -> None:
    slide, out = two_slides / "a.tiff", tmp_path / "out"
    assert run(slide, out, caption="fraction=0.1") == 0
    assert run(slide, out, caption="fraction=0.10") == 0
    for other in (
        {"caption": "fraction=0.2"},
        {"caption": "fraction=0.1", "choose": "random"},
        {"caption": "fraction=0.1", "borrow": "nearest"},
        {"caption": "none"},
    ):
        with pytest.raises(InputError, match="holds a run with other settings"):
            run(slide, out, **other)


def test_a_patch_that_the_model_has_no_words_for_stays_with_the_image(
    run: Run, two_slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_: Captioner, images: Sequence[np.ndarray]) -> list[Caption]:
        return [Caption("", 1, -1.0, error="the model wrote nothing") for _ in images]

    monkeypatch.setattr(Captioner, "describe", silent)
    assert run(two_slides / "a.tiff", tmp_path / "out", caption="budget=3", borrow="nearest") == 0
    rows = predictions(tmp_path / "out", "a.tiff")
    assert not rows["captioned"].any()
    assert rows["nearest_described"].isna().all()
    page = (tmp_path / "out" / "slides" / "a.tiff.html").read_text(encoding="utf-8")
    assert "0 of 14 patches (0%) were described" in page
    assert "No patch of this slide was described." in page
