"""What is known of a slide before any model sees it."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from drawn_slide import draw_glass, draw_pen, draw_tissue, write_slide

from data.errors import InputError
from data.normalise import reference_stain
from data.patch_hdf5 import write_patches
from data.prepared_slide import THUMBNAIL_PX, NotForUs, PreparedSlide, SlideRequest, prepare_slide
from data.reader_pool import ReaderPool
from data.slide import Slide

REQUEST = SlideRequest(target_mpp=1.0, tile_px=64)
SIZE_PX = 128.0


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    with ReaderPool(workers=1, slot_bytes=1) as pool:
        yield pool


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = draw_glass(width=1280, height=1024)
    draw_tissue(pixels, left=128, top=128, right=1152, bottom=896)
    draw_pen(pixels, "blue", left=128, top=128, right=384, bottom=384)
    return write_slide(tmp_path_factory.mktemp("slides") / "drawn.tiff", pixels, mpp=0.5)


def prepare(path: Path, request: SlideRequest = REQUEST) -> PreparedSlide:
    return prepare_slide(path, path.name, request)


def test_a_slide_is_opened_cut_and_shown(drawn: Path) -> None:
    prepared = prepare(drawn)
    assert prepared.slide.slide_id == "drawn.tiff"
    assert prepared.plan.columns * prepared.plan.rows == 10 * 8
    assert len(prepared.plan.tiles) + len(prepared.plan.rejected) == 80
    assert {tile.size_px for tile in prepared.plan.tiles} == {SIZE_PX}
    assert {"background", "pen"} <= set(prepared.plan.reasons())
    assert 30 <= len(prepared.plan.tiles) <= 48
    assert prepared.stain is None


def test_a_thumbnail_has_its_size_where_the_slide_has_as_many_pixels(drawn: Path, tmp_path: Path) -> None:
    assert prepare(drawn).thumbnail.shape == (720, THUMBNAIL_PX, 3)
    pixels = draw_glass(width=500, height=400)
    truth = draw_tissue(pixels, left=100, top=100, right=400, bottom=300)
    prepared = prepare(write_slide(tmp_path / "small.tiff", pixels))
    np.testing.assert_array_equal(prepared.thumbnail, pixels)
    assert truth.any()


def test_a_thumbnail_of_a_large_overview_is_reduced_from_it(tmp_path: Path) -> None:
    pixels = draw_glass(width=2000, height=1500)
    draw_tissue(pixels, left=400, top=400, right=1600, bottom=1000)
    prepared = prepare(write_slide(tmp_path / "coarse.tiff", pixels, mpp=2.0), replace(REQUEST, target_mpp=2.0))
    assert prepared.overview.pixels.shape == (750, 1000, 3)
    assert prepared.thumbnail.shape == (675, THUMBNAIL_PX, 3)
    assert np.abs(prepared.thumbnail.mean(axis=(0, 1)) - pixels.mean(axis=(0, 1))).max() < 1


def test_a_fluorescence_slide_is_not_for_us_unless_any_stain_will_do(real_data: Path) -> None:
    path = real_data / "slides" / "negative" / "fluorescence-DAPI.ndpi"
    request = replace(REQUEST, manifest_mpp=0.5)
    with pytest.raises(NotForUs, match=r"fluorescence-DAPI\.ndpi: not H&E .* --any-stain$") as caught:
        prepare(path, request)
    assert "\n" not in str(caught.value)
    assert prepare(path, replace(request, any_stain=True)).plan.tiles


def test_a_slide_without_tissue_is_not_for_us(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "glass.tiff", draw_glass())
    with pytest.raises(NotForUs, match=r"glass\.tiff: no tissue found"):
        prepare(path)
    assert prepare(path, replace(REQUEST, any_stain=True)).plan.tiles == ()


@pytest.mark.parametrize("any_stain", [False, True])
def test_a_slide_of_which_nothing_can_be_read_is_damaged_and_not_of_another_kind(
    drawn: Path, tmp_path: Path, any_stain: bool
) -> None:
    path = tmp_path / "damaged.tiff"
    content = drawn.read_bytes()
    # The directories of levels lie between their tiles; what is deflated begins with 0x78.
    path.write_bytes(content.replace(b"\x78\x9c", b"\x00\x00").replace(b"\x78\xda", b"\x00\x00"))
    with pytest.raises(InputError, match=r"damaged\.tiff: no part of the slide can be read; replace") as caught:
        prepare(path, replace(REQUEST, any_stain=any_stain))
    assert not isinstance(caught.value, NotForUs)


def test_a_slide_smaller_than_a_tile_and_one_that_is_absent_are_refused(drawn: Path) -> None:
    with pytest.raises(InputError, match=r"drawn\.tiff: too small"):
        prepare(drawn, replace(REQUEST, tile_px=600))
    with pytest.raises(InputError, match=r"absent\.svs: no such file"):
        prepare(drawn.with_name("absent.svs"))


@pytest.mark.parametrize(("width", "height"), [(5_000_000, 5_000_000), (2**31 - 1, 300)])
def test_a_slide_that_a_damaged_header_makes_absurdly_large_is_refused_before_it_is_read(
    drawn: Path, width: int, height: int
) -> None:
    header = replace(prepare(drawn).slide.header, width=width, height=height)
    with pytest.raises(InputError, match=rf"huge\.svs: implausibly large, {width} x {height} px"):
        Slide(Path("huge.svs"), slide_id="huge.svs", header=header).check_size(target_mpp=1.0, tile_px=64)


def test_the_resolution_follows_the_request(drawn: Path) -> None:
    prepared = prepare(drawn, replace(REQUEST, manifest_mpp=0.25, command_line_mpp=3.0))
    assert (prepared.slide.mpp.value, prepared.slide.mpp.origin) == (0.25, "manifest")
    assert {tile.size_px for tile in prepared.plan.tiles} == {2 * SIZE_PX}
    assert prepare(drawn, replace(REQUEST, command_line_mpp=3.0)).slide.mpp.origin == "file"


def test_a_prepared_slide_is_the_same_from_another_process(drawn: Path, pool: ReaderPool) -> None:
    here = prepare(drawn)
    there: PreparedSlide = pool.run(prepare_slide, drawn, "drawn.tiff", REQUEST, name="x")
    again: PreparedSlide = pickle.loads(pickle.dumps(there))
    for other in (there, again):
        assert other.plan == here.plan
        assert other.slide.header == here.slide.header
        np.testing.assert_array_equal(other.thumbnail, here.thumbnail)
        np.testing.assert_array_equal(other.tissue.tissue, here.tissue.tissue)
        tile = here.plan.tiles[0]
        np.testing.assert_array_equal(
            other.slide.read_tile(x=tile.x, y=tile.y, size_px=tile.size_px, tile_px=64),
            here.slide.read_tile(x=tile.x, y=tile.y, size_px=tile.size_px, tile_px=64),
        )


def test_refusals_arrive_from_another_process_as_they_are(drawn: Path, real_data: Path, pool: ReaderPool) -> None:
    with pytest.raises(InputError, match="too small"):
        pool.run(prepare_slide, drawn, "x", replace(REQUEST, tile_px=600), name="x")
    path = real_data / "slides" / "negative" / "fluorescence-DAPI.ndpi"
    with pytest.raises(NotForUs, match="not H&E"):
        pool.run(prepare_slide, path, "x", replace(REQUEST, manifest_mpp=0.5), name="x")


def test_the_stain_is_estimated_only_where_colours_are_normalised(drawn: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchstain")
    reference = reference_stain("macenko")
    stain = prepare(drawn, replace(REQUEST, reference=reference)).stain
    assert stain is not None
    assert (stain.method, stain.source) == ("macenko", str(drawn))
    glass = write_slide(tmp_path / "glass.tiff", draw_glass())
    with pytest.raises(InputError, match=r"glass\.tiff: no tile to estimate the stain from"):
        prepare(glass, replace(REQUEST, reference=reference, any_stain=True))


def given(drawn: Path, folder: Path) -> PreparedSlide:
    return prepare(drawn, replace(REQUEST, coordinates=folder))


@pytest.mark.parametrize("size_px", [64.0, 128.0, 300.0])
def test_our_own_coordinates_are_used_centred_in_their_order(drawn: Path, tmp_path: Path, size_px: float) -> None:
    coords = np.array([[700, 500], [200, 300], [201, 300]])
    write_patches(
        tmp_path / "drawn.h5", slide_id="drawn.tiff", dimensions=(1280, 1024), level0_mpp=0.5, target_mpp=0.5,
        tile_px=round(size_px), size_px=size_px, coords=coords, features=None, encoder="none",
    )  # fmt: skip
    plan = given(drawn, tmp_path).plan
    centres = [(tile.x + tile.size_px / 2, tile.y + tile.size_px / 2) for tile in plan.tiles]
    assert centres == [(x + size_px / 2, y + size_px / 2) for x, y in coords.tolist()]
    assert {tile.size_px for tile in plan.tiles} == {SIZE_PX}
    assert (plan.tile_px, plan.target_mpp, plan.upsampling) == (64, 1.0, 1.0)


def write_foreign(path: Path, coords: list[list[int]], **attributes: object) -> None:
    """Write coordinates as another tool does, by h5py alone."""
    with h5py.File(path, "w") as file:
        file.create_dataset("coords", data=np.array(coords)).attrs.update(attributes)


CLAM = {"patch_size": 256, "patch_level": 0, "downsample": (1.0, 1.0), "level_dim": (1280, 1024), "name": "drawn"}
TRIDENT = {"patch_size": 512, "patch_size_level0": 256, "level0_width": 1280, "level0_height": 1024, "name": "drawn"}


@pytest.mark.parametrize(("attributes", "name"), [(CLAM, "drawn.h5"), (TRIDENT, "drawn_patches.h5")])
def test_coordinates_of_other_tools_are_used_centred(
    drawn: Path, tmp_path: Path, attributes: dict[str, object], name: str
) -> None:
    write_foreign(tmp_path / name, [[300, 200], [556, 200]], **attributes)
    # 256 level-0 pixels of theirs, 128 of ours.
    assert [(tile.x, tile.y) for tile in given(drawn, tmp_path).plan.tiles] == [(364, 264), (620, 264)]


def test_patches_that_reach_onto_the_slide_with_their_border_are_background(drawn: Path, tmp_path: Path) -> None:
    write_foreign(tmp_path / "drawn.h5", [[300, 200], [1270, 200], [1200, 1000]], **CLAM)
    plan = given(drawn, tmp_path).plan
    assert [(tile.x, tile.y) for tile in plan.tiles] == [(364, 264)]
    assert [(tile.x, tile.y, reason) for tile, reason in plan.rejected] == [
        (1334, 264, "background"), (1264, 1064, "background"),
    ]  # fmt: skip


def test_coordinates_that_do_not_belong_to_the_slide_are_refused(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"drawn\.tiff: no coordinates in .*expected drawn\.tiff\.h5"):
        given(drawn, tmp_path)
    file = tmp_path / "drawn.h5"
    write_foreign(file, [[300, 200], [40_000, 200]], **CLAM)
    with pytest.raises(InputError, match=r"drawn\.h5: .*40000"):
        given(drawn, tmp_path)
    write_foreign(file, [[300, 200]], **{**TRIDENT, "level0_width": 90_000})
    with pytest.raises(InputError, match=r"drawn\.h5: .*90000"):
        given(drawn, tmp_path)
    file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(InputError, match=r"drawn\.h5: not readable as HDF5") as caught:
        given(drawn, tmp_path)
    assert "\n" not in str(caught.value)


def test_no_given_patches_give_no_tiles(drawn: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "drawn.h5", "w") as file:
        file.create_dataset("coords", data=np.zeros((0, 2), dtype=np.int64)).attrs.update(CLAM)
    assert given(drawn, tmp_path).plan.tiles == ()
