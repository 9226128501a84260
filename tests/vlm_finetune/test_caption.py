"""Captioning a manifest: every patch once, nothing lost, one bad row costs one row."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from data.captions import COLUMNS
from data.command import make_config
from data.errors import InputError
from vlm_finetune.caption import caption, read_captions
from vlm_finetune.captioner import Captioner
from vlm_finetune.config import CaptionConfig
from vlm_finetune.decoding import Caption
from vlm_finetune.patch_source import Patch


@pytest.fixture
def config(micro_model: str, manifest: Path, tmp_path: Path) -> Callable[..., CaptionConfig]:
    def make(**settings: object) -> CaptionConfig:
        defaults: dict[str, object] = {
            "manifest": manifest,
            "out": tmp_path / "captions",
            "model": micro_model,
            "image_px": 56,
            "batch_size": 4,
            "rows_per_part": 5,
            "max_new_tokens": 6,
        }
        return CaptionConfig(**defaults | settings)  # type: ignore[arg-type]

    return make


def rows(folder: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("part-*.parquet"))


def test_every_patch_is_described_once_in_parts_of_the_asked_size(config: Callable[..., CaptionConfig]) -> None:
    out = caption(config())
    frame = read_captions(out)
    assert list(frame.columns) == list(COLUMNS)
    assert sorted(frame["patch_id"]) == sorted(f"p{index}" for index in range(12))
    assert [pq.read_metadata(out / f"part-0-{n}.parquet").num_rows for n in range(3)] == [5, 5, 2]
    assert frame["key"].is_unique


def test_only_the_asked_splits_are_described(config: Callable[..., CaptionConfig]) -> None:
    assert len(read_captions(caption(config(splits=("val", "test"))))) == 4


def test_a_run_with_a_part_missing_is_completed_with_the_same_text(config: Callable[..., CaptionConfig]) -> None:
    out = caption(config())
    whole = read_captions(out).set_index("patch_id")
    (out / "part-0-1.parquet").unlink()
    caption(config(batch_size=3))
    again = read_captions(out).set_index("patch_id").loc[whole.index]
    assert rows(out) == 12
    assert again["text"].equals(whole["text"])
    assert again["key"].equals(whole["key"])


def test_a_finished_run_computes_nothing(config: Callable[..., CaptionConfig]) -> None:
    out = caption(config())
    parts = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}
    caption(config())
    assert parts == {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}


def test_unreadable_images_cost_their_own_rows_only(config: Callable[..., CaptionConfig], manifest: Path) -> None:
    (manifest.parent / "images" / "3.png").write_bytes(b"not an image")
    (manifest.parent / "images" / "4.png").unlink()
    frame = read_captions(caption(config())).set_index("patch_id")
    assert len(frame) == 12
    assert "3.png" in frame.loc["p3", "error"]
    assert "4.png" in frame.loc["p4", "error"]
    assert frame.loc["p3", "text"] is None
    assert frame["error"].isna().sum() == 10
    out = caption(config())
    assert rows(out) == 12


def test_an_image_that_was_mended_is_described_at_the_next_run(
    config: Callable[..., CaptionConfig], manifest: Path
) -> None:
    image = manifest.parent / "images" / "3.png"
    content = image.read_bytes()
    image.write_bytes(b"not an image")
    caption(config())
    image.write_bytes(content)
    frame = read_captions(caption(config())).set_index("patch_id")
    assert len(frame) == 12
    assert frame["error"].isna().all()


def count_described(monkeypatch: pytest.MonkeyPatch) -> list[Patch]:
    """The patches that the model is asked about from here on."""
    seen: list[Patch] = []
    whole = Captioner.stream

    def stream(self: Captioner, patches: Iterable[tuple[Patch, Any]]) -> Iterator[tuple[Patch, Caption]]:
        def noted() -> Iterator[tuple[Patch, Any]]:
            for patch, image in patches:
                seen.append(patch)
                yield patch, image

        return whole(self, noted())

    monkeypatch.setattr(Captioner, "stream", stream)
    return seen


def test_rows_with_an_error_are_described_again_on_request(
    config: Callable[..., CaptionConfig], manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = Caption("", 1, -1.0, "the model wrote nothing")
    with monkeypatch.context() as broken:
        broken.setattr(Captioner, "stream", lambda self, patches: ((patch, nothing) for patch, _ in patches))
        out = caption(config())
    assert read_captions(out)["error"].notna().all()
    caption(config())
    assert read_captions(out)["error"].notna().all()
    seen = count_described(monkeypatch)
    caption(config(retry_errors=True))
    assert len(seen) == 12
    assert read_captions(out)["error"].isna().all()
    caption(config(retry_errors=True))
    assert len(seen) == 12


def test_equal_pixels_are_described_once(
    config: Callable[..., CaptionConfig],
    manifest: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone = read_captions(caption(config(out=manifest.parent / "alone"))).set_index("patch_id")
    for copy in (1, 7, 11):
        (manifest.parent / "images" / f"{copy}.png").write_bytes((manifest.parent / "images" / "0.png").read_bytes())
    described = count_described(monkeypatch)
    frame = read_captions(caption(config(batch_size=2))).set_index("patch_id")
    assert len(described) == 9
    assert "3 patches have the text of another with equal pixels" in capsys.readouterr().out
    assert set(frame["copy_of"].dropna()) < {"p0", "p1", "p7", "p11"}
    assert frame["copy_of"].notna().sum() == 3
    assert set(frame.loc[["p0", "p1", "p7", "p11"], "text"]) == {alone.loc["p0", "text"]}
    assert len(frame) == 12
    rest = [f"p{index}" for index in range(12) if index not in (1, 7, 11)]
    assert frame.loc[rest, "text"].equals(alone.loc[rest, "text"])


def test_a_text_that_meets_the_limit_is_flagged_and_counted(
    config: Callable[..., CaptionConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    frame = read_captions(caption(config(max_new_tokens=2)))
    assert set(frame["flags"]) == {"cut"}
    assert "12 with the flag cut" in capsys.readouterr().out


def test_the_status_of_a_folder_is_told_from_what_is_on_disk(
    config: Callable[..., CaptionConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    out = caption(config())
    (out / "part-0-1.parquet").unlink()
    capsys.readouterr()
    parts = sorted(out.iterdir())
    caption(config(status=True, model="not here"))
    said = capsys.readouterr().out
    assert "7 of 12 patches described" in said
    assert "last part written" in said
    assert sorted(out.iterdir()) == parts


def test_the_folder_of_other_settings_is_refused(config: Callable[..., CaptionConfig]) -> None:
    caption(config())
    with pytest.raises(InputError, match="another --out"):
        caption(config(max_new_tokens=7))


def test_a_mark_that_was_cut_short_is_named(config: Callable[..., CaptionConfig]) -> None:
    out = caption(config())
    (out / "run.json").write_text('{"key": "0a')
    with pytest.raises(InputError, match=r"run\.json: cannot be read"):
        caption(config())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_here_is_named(config: Callable[..., CaptionConfig]) -> None:
    with pytest.raises(InputError, match="--device cuda: not on this machine"):
        caption(config(device="cuda"))


def test_a_patch_inside_a_slide_is_refused_with_the_command_to_use(
    config: Callable[..., CaptionConfig], edit_manifest: Callable[..., Path]
) -> None:
    edit_manifest("p2", image=None)
    with pytest.raises(InputError, match=r"p2.*--slides"):
        caption(config())


def test_a_folder_without_captions_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mmlnb caption"):
        read_captions(tmp_path)


@pytest.mark.parametrize("preset", ["tiny", "paper", "qwen2.5-vl-7b"])
def test_the_presets_load(preset: str, tmp_path: Path) -> None:
    config = make_config(CaptionConfig, name="caption", config=preset, manifest=tmp_path / "m", out=tmp_path)
    assert (config.model == "tiny") == (preset == "tiny")


def test_alternatives_are_kept_beside_the_text_and_do_not_change_it(config: Callable[..., CaptionConfig]) -> None:
    alone_out = caption(config())
    alone = read_captions(alone_out).set_index("patch_id")
    settings = {"alternatives": 2, "alternatives_temperature": 1.5}
    together = read_captions(caption(config(out=alone_out.with_name("more"), **settings))).set_index("patch_id")
    by_one = read_captions(caption(config(out=alone_out.with_name("one"), batch_size=1, **settings))).set_index(
        "patch_id"
    )
    assert together["text"].to_dict() == alone["text"].to_dict()
    assert {len(texts) for texts in alone["alternatives"]} == {0}
    assert {len(texts) for texts in together["alternatives"]} == {2}
    assert any(first != second for first, second in together["alternatives"])
    for patch_id, texts in together["alternatives"].items():
        assert list(texts) == list(by_one.loc[patch_id, "alternatives"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": -1}, "--batch_size -1: give 0 or more"),
        ({"rows_per_part": 0}, "--rows_per_part 0: give 1 or more"),
        ({"dedupe": 1.5}, "--dedupe 1.5: a cosine"),
        ({"alternatives": 1, "alternatives_temperature": 0.0}, "would all be alike"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    config: Callable[..., CaptionConfig], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        caption(config(**settings))
