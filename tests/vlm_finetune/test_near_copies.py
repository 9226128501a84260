"""Patches that look nearly alike are described once, and which of them stands for the others is no matter of luck."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vlm_finetune.near_copies
from data.captions import read_captions
from vlm_finetune.caption import caption
from vlm_finetune.config import CaptionConfig
from vlm_finetune.near_copies import leaders, stretches, whole_stretches
from vlm_finetune.patch_source import Patch
from vlm_finetune.unseen import Place, Row


def test_the_first_of_those_that_are_alike_stands_for_them() -> None:
    vectors = np.array([[1, 0], [0, 1], [10, 1], [1, 9], [-1, 0], [3, 0]], dtype=np.float32)
    assert leaders(vectors, threshold=0.99) == [0, 1, 0, 1, 4, 0]
    assert leaders(vectors, threshold=0.9999) == [0, 1, 2, 3, 4, 0]


def test_an_embedding_goes_to_the_leader_that_is_most_like_it() -> None:
    angles = np.radians([0, 20, 12])
    assert leaders(np.stack([np.cos(angles), np.sin(angles)], 1), threshold=np.cos(np.radians(15))) == [0, 1, 1]


def test_stretches_end_with_their_slide_and_are_gathered_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vlm_finetune.near_copies, "_STRETCH", 3)
    rows = [Row(f"a{n}", None, None, Place("a.svs", n, 0, 224, 0.5)) for n in range(4)]
    rows += [Row(f"b{n}", None, None, Place("b.svs", n, 0, 224, 0.5)) for n in range(2)]
    wanted = stretches(rows)
    assert [[row.patch_id for row in some] for some in wanted] == [["a0", "a1", "a2"], ["a3"], ["b0", "b1"]]
    patches = [Patch(name, None, name) for name in ("a2", "a3", "a0", "a1", "b1", "b0")]
    gathered = [[patch.patch_id for patch in some] for some in whole_stretches(patches, wanted)]
    assert gathered == [["a3"], ["a0", "a1", "a2"], ["b0", "b1"]]


@pytest.fixture
def config(micro_model: str, manifest: Path, tmp_path: Path) -> CaptionConfig:
    """Twelve patches, every second one a slightly changed copy of the one before it."""
    images = manifest.parent / "images"
    rng = np.random.default_rng(5)
    for index in range(0, 12, 2):
        block = rng.integers(0, 256, (2, 2, 3)).repeat(28, 0).repeat(28, 1)
        Image.fromarray(block.astype(np.uint8)).save(images / f"{index}.png")
        Image.fromarray((block + rng.integers(-1, 2, block.shape)).clip(0, 255).astype(np.uint8)).save(
            images / f"{index + 1}.png"
        )
    return CaptionConfig(
        manifest=manifest,
        out=tmp_path / "captions",
        model=micro_model,
        image_px=56,
        batch_size=3,
        rows_per_part=2,
        max_new_tokens=6,
        dedupe=0.999,
    )


def test_near_copies_get_the_text_of_the_first(config: CaptionConfig, capsys: pytest.CaptureFixture[str]) -> None:
    alone = read_captions(caption(replace(config, out=config.out.parent / "alone", dedupe=None))).set_index("patch_id")
    frame = read_captions(caption(config)).set_index("patch_id")
    assert "6 patches have the text of another with equal or nearly equal (cosine 0.999 or more)" in (
        capsys.readouterr().out
    )
    assert len(frame) == 12
    for index in range(0, 12, 2):
        assert frame.loc[f"p{index}", "copy_of"] is None
        assert frame.loc[f"p{index + 1}", "copy_of"] == f"p{index}"
        assert frame.loc[f"p{index + 1}", "text"] == frame.loc[f"p{index}", "text"] == alone.loc[f"p{index}", "text"]
    assert set(frame["key"]).isdisjoint(alone["key"]), "a text that depends on others has a key of its own"


def test_an_interrupted_run_ends_with_the_same_texts(config: CaptionConfig) -> None:
    whole = read_captions(caption(config)).set_index("patch_id").sort_index()
    parts = sorted(config.out.glob("part-*.parquet"))
    for lost in (parts[::2], parts[1::2], parts[:-1]):
        for path in lost:
            path.unlink(missing_ok=True)
        again = read_captions(caption(config)).set_index("patch_id").sort_index()
        columns = ["text", "key", "copy_of"]
        assert again[columns].equals(whole[columns])
        parts = sorted(config.out.glob("part-*.parquet"))


def test_a_patch_that_cannot_be_read_costs_its_own_row(config: CaptionConfig) -> None:
    (config.manifest.parent / "images" / "0.png").write_bytes(b"not an image")
    frame = read_captions(caption(config)).set_index("patch_id")
    assert frame["error"].notna().sum() == 1
    assert frame.loc["p1", "copy_of"] is None
    assert frame.loc["p1", "text"]


def test_a_finished_run_describes_nothing(config: CaptionConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    caption(config)
    embed: Callable[..., object] = lambda *_: pytest.fail("nothing is left to compare")  # noqa: E731
    monkeypatch.setattr("vlm_finetune.captioner.embed_images", embed)
    assert len(read_captions(caption(config))) == 12
