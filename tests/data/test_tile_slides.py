"""The tissue of a folder of slides becomes a manifest, and a slide that cannot be used is named."""

from pathlib import Path

import pandas as pd
import pytest
from drawn_slide import draw_glass, draw_tissue, write_slide

from data.config import TileConfig
from data.errors import InputError
from data.manifest import read_manifest
from data.prepared_slide import SlideRequest, prepare_slide
from data.tile_slides import SOME_LEFT_OUT, tile


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    for name, seed in (("a.tiff", 1), ("deeper/b.tiff", 2)):
        pixels = draw_glass(width=1280, height=1024)
        draw_tissue(pixels, left=128, top=128, right=1152, bottom=896, seed=seed)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_slide(folder / name, pixels, mpp=0.5)
    return folder


def config(slides: Path, **settings: object) -> TileConfig:
    values: dict[str, object] = {"target_mpp": 1.0, "tile_px": 64}
    return TileConfig(slides=slides, out=slides.parent / "tiles.parquet", **values | settings)  # type: ignore[arg-type]


def test_the_manifest_lists_the_tiles_that_inference_would_use(slides: Path) -> None:
    assert tile(config(slides)) == 0
    frame = read_manifest(slides.parent / "tiles.parquet")
    plan = prepare_slide(slides / "a.tiff", "a.tiff", SlideRequest(target_mpp=1.0, tile_px=64)).plan
    own = frame[frame["slide_id"] == "a.tiff"]
    assert list(zip(own["x"], own["y"], strict=True)) == [(one.x, one.y) for one in plan.tiles]
    assert set(frame["slide_id"]) == {"a.tiff", "deeper/b.tiff"}
    assert set(zip(frame["size_px"], frame["mpp"], strict=True)) == {(64, 1.0)}
    assert frame["image"].isna().all()


def test_a_slide_that_cannot_be_used_is_listed_with_its_reason(slides: Path) -> None:
    (slides / "broken.svs").write_bytes(b"not a slide")
    write_slide(slides / "glass.tiff", draw_glass(width=1280, height=1024), mpp=0.5)
    assert tile(config(slides)) == SOME_LEFT_OUT
    left = pd.read_csv(slides.parent / "tiles.left-out.csv").set_index("slide")["reason"]
    assert set(left.index) == {"broken.svs", "glass.tiff"}
    assert "broken.svs" in left["broken.svs"]
    assert len(set(read_manifest(slides.parent / "tiles.parquet")["slide_id"])) == 2


def test_a_folder_with_nothing_to_use_is_named(tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    write_slide(tmp_path / "slides" / "glass.tiff", draw_glass(width=1280, height=1024), mpp=0.5)
    with pytest.raises(InputError, match="no slide has tissue"):
        tile(config(tmp_path / "slides"))


def test_settings_out_of_range_are_refused(slides: Path) -> None:
    for settings in ({"tile_px": 0}, {"target_mpp": -1.0}, {"min_tissue": 2.0}):
        with pytest.raises(InputError, match="give"):
            config(slides, **settings)
