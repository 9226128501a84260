"""Patch files: what TRIDENT and CLAM find in ours, and what is read from theirs."""

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from data.patch_hdf5 import PatchFile, find_patch_file, read_patches, write_patches

COORDS = np.array([[0, 0], [451, 0], [0, 451], [902, 1353]])


def write_ours(path: Path, **changes: Any) -> Path:
    arguments: dict[str, Any] = {
        "slide_id": "ward/S1.svs",
        "dimensions": (5000, 4000),
        "level0_mpp": 0.2485,
        "target_mpp": 0.5,
        "tile_px": 224,
        "size_px": 224 * 0.5 / 0.2485,
        "coords": COORDS,
        "features": [np.arange(32, dtype=np.float32).reshape(4, 8)],
        "encoder": "resnet18",
    }
    write_patches(path, **(arguments | changes))
    return path


def write_theirs(path: Path, *, attributes: dict[str, Any] | None = None, **datasets: np.ndarray) -> Path:
    """Write as both tools do: resizable datasets in chunks of one row, attributes on `coords`."""
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]), chunks=(1, *values.shape[1:]))
        if attributes:
            file["coords"].attrs.update(attributes)
    return path


def trident_attributes(**changes: Any) -> dict[str, Any]:
    return {
        "patch_size": 256,
        "patch_size_level0": 512,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": 0,
        "name": "S1",
        "savetodir": "20x_256px_0px_overlap",
        "level0_width": 5000,
        "level0_height": 4000,
    } | changes


def clam_attributes(**changes: Any) -> dict[str, Any]:
    return {
        "patch_size": 256,
        "patch_level": 1,
        "downsample": (4.0, 4.0),
        "downsampled_level_dim": (1250, 1000),
        "level_dim": (1250, 1000),
        "name": "S1",
        "save_path": "patches",
    } | changes


def trident_side(attributes: Any) -> int:
    """Side in level-0 pixels that TRIDENT cuts."""
    return round(attributes["patch_size"] * attributes["level0_magnification"] / attributes["target_magnification"])


def test_a_written_file_has_every_attribute_that_either_tool_documents(tmp_path: Path) -> None:
    with h5py.File(write_ours(tmp_path / "S1.h5"), "r") as file:
        attributes = file["coords"].attrs
        assert set(trident_attributes()) | set(clam_attributes()) <= set(attributes)
        assert file["coords"].shape == (4, 2)
        assert file["coords"].dtype == np.int64
        assert file["features"].shape == (4, 8)
        assert file["features"].dtype == np.float32
        np.testing.assert_array_equal(file["coords"][:], COORDS)
        for name in ("patch_size", "patch_size_level0", "patch_level", "overlap", "level0_width", "level0_height"):
            assert np.issubdtype(type(attributes[name]), np.integer), name
        assert attributes["name"] == file["features"].attrs["name"] == "S1"
        assert (attributes["level0_width"], attributes["level0_height"]) == (5000, 4000)
        assert attributes["level0_magnification"] == pytest.approx(10 / 0.2485)
        assert attributes["size_px"] == 224 * 0.5 / 0.2485


@pytest.mark.parametrize(
    ("level0_mpp", "downsamples", "patch_size", "level"),
    [
        (0.25, (1.0, 4.0, 16.0), 448, 0),
        (0.25, (1.0, 2.0005, 4.001), 224, 1),
        (0.125, (1.0, 2.0, 4.0), 224, 2),
        (0.5, (1.0, 4.0), 224, 0),
        (0.2485, (1.0, 2.0), 451, 0),
        (0.8, (1.0,), 140, 0),
    ],
)
def test_both_tools_cut_the_same_square_from_a_written_file(
    tmp_path: Path, level0_mpp: float, downsamples: tuple[float, ...], patch_size: int, level: int
) -> None:
    size_px = 224 * 0.5 / level0_mpp
    path = write_ours(tmp_path / "S1.h5", level0_mpp=level0_mpp, size_px=size_px, level_downsamples=downsamples)
    with h5py.File(path, "r") as file:
        attributes = dict(file["coords"].attrs)
    assert (attributes["patch_size"], attributes["patch_level"]) == (patch_size, level)
    assert attributes["patch_size"] * downsamples[attributes["patch_level"]] == pytest.approx(size_px, abs=1)
    assert attributes["downsample"].tolist() == [downsamples[level]] * 2
    assert trident_side(attributes) == pytest.approx(size_px, abs=1)
    assert attributes["patch_size_level0"] == round(size_px)
    assert 10 / attributes["target_magnification"] == pytest.approx(level0_mpp * downsamples[level])


def test_our_own_file_comes_back_exactly(tmp_path: Path) -> None:
    read = read_patches(write_ours(tmp_path / "S1.h5"))
    np.testing.assert_array_equal(read.coords, COORDS)
    assert read.features is not None
    np.testing.assert_array_equal(read.features, np.arange(32).reshape(4, 8))
    assert (read.size_px, read.target_mpp, read.tile_px) == (224 * 0.5 / 0.2485, 0.5, 224)
    assert (read.slide_id, read.dimensions, read.encoder) == ("ward/S1.svs", (5000, 4000), "resnet18")


@pytest.mark.parametrize("slide_id", ["Präparat 1/Å.svs", "bad\udcffbytes.svs", "S1"])
def test_a_slide_may_have_any_file_name(tmp_path: Path, slide_id: str) -> None:
    read = read_patches(write_ours(tmp_path / "S1.h5", slide_id=slide_id, features=None, encoder=""))
    assert (read.slide_id, read.encoder) == (slide_id, None)


@given(
    corners=st.lists(st.tuples(st.integers(-100, 99_999), st.integers(-100, 79_999)), max_size=12),
    size_px=st.floats(101, 5000),
    width=st.integers(1, 5),
    half=st.booleans(),
    seed=st.integers(0, 2**16),
    cut=st.integers(1, 12),
)
@settings(max_examples=60, deadline=None)
def test_any_patches_survive_writing_and_reading(
    corners: list[tuple[int, int]], size_px: float, width: int, half: bool, seed: int, cut: int
) -> None:
    coords = np.array(corners, dtype=np.int64).reshape(-1, 2)
    features = np.random.default_rng(seed).normal(size=(len(coords), width)).astype(np.float16 if half else np.float32)
    batches = [features[start : start + cut] for start in range(0, max(1, len(features)), cut)]
    with TemporaryDirectory() as folder:
        path = write_ours(
            Path(folder) / "a.h5", coords=coords, features=batches, size_px=size_px, dimensions=(100_000, 80_000)
        )
        read = read_patches(path, dimensions=(100_000, 80_000))
    assert read.size_px == size_px
    assert read.coords.dtype == np.int64
    np.testing.assert_array_equal(read.coords, coords)
    assert read.features is not None
    assert read.features.dtype == features.dtype
    np.testing.assert_array_equal(read.features, features)


def test_the_same_patches_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_ours(tmp_path / "a" / "S1.h5").read_bytes()
    assert write_ours(tmp_path / "b" / "S1.h5").read_bytes() == first


def test_memory_does_not_grow_with_the_features(tmp_path: Path) -> None:
    batches = 64
    coords = np.zeros((batches * 256, 2), dtype=np.int64)

    def encode() -> Iterator[np.ndarray]:
        for _ in range(batches):
            yield np.ones((256, 512), dtype=np.float16)

    tracemalloc.start()
    path = write_ours(tmp_path / "S1.h5", coords=coords, features=encode())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 16_000_000
    assert peak < 4_000_000


@pytest.mark.parametrize(
    "features",
    [
        [np.zeros((3, 8), np.float32)],
        [np.zeros((5, 8), np.float32)],
        [np.zeros((4, 8), np.float32), np.zeros((1, 8), np.float32)],
        [np.zeros((2, 8), np.float32), np.zeros((2, 9), np.float32)],
        [np.zeros((2, 8), np.float32), np.zeros((2, 8), np.float16)],
        [np.zeros((4, 8), np.int64)],
        [np.zeros(4, np.float32)],
        [np.full((4, 8), np.nan, np.float32)],
        [],
    ],
)
def test_features_that_do_not_fit_leave_no_file(tmp_path: Path, features: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match=r"S1\.h5"):
        write_ours(tmp_path / "S1.h5", features=features)
    assert not list(tmp_path.iterdir())


def test_an_encoder_that_fails_leaves_the_file_of_before(tmp_path: Path) -> None:
    path = write_ours(tmp_path / "S1.h5")
    before = path.read_bytes()

    def encode() -> Iterator[np.ndarray]:
        yield np.zeros((2, 8), np.float32)
        raise MemoryError

    with pytest.raises(MemoryError):
        write_ours(path, features=encode())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_slide_without_tissue_is_an_empty_file_that_reads(tmp_path: Path) -> None:
    path = write_ours(tmp_path / "S1.h5", coords=np.empty((0, 2), np.int64), features=[])
    read = read_patches(path)
    assert read.coords.shape == (0, 2)
    assert read.features is not None
    assert len(read.features) == 0
    assert len(read.coords) == 0


def test_coordinates_alone_read_without_features(tmp_path: Path) -> None:
    assert read_patches(write_ours(tmp_path / "S1.h5", features=None)).features is None
    assert read_patches(write_ours(tmp_path / "S1.h5"), with_features=False).features is None


def check_theirs(read: PatchFile, *, size_px: float, tile_px: int | None) -> None:
    np.testing.assert_array_equal(read.coords, COORDS)
    assert read.coords.dtype == np.int64
    assert (read.size_px, read.tile_px, read.target_mpp) == (size_px, tile_px, None)


def test_coordinates_of_trident_are_read(tmp_path: Path) -> None:
    read = read_patches(write_theirs(tmp_path / "S1_patches.h5", attributes=trident_attributes(), coords=COORDS))
    check_theirs(read, size_px=512, tile_px=256)
    assert (read.slide_id, read.dimensions, read.features) == (None, (5000, 4000), None)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("batch_axis", [False, True])
def test_features_of_trident_are_read_with_and_without_a_batch_axis(
    tmp_path: Path, kind: type, batch_axis: bool
) -> None:
    features = np.arange(12, dtype=kind).reshape(4, 3)
    arrays = {"coords": COORDS, "features": features}
    if batch_axis:
        arrays = {name: values[None] for name, values in arrays.items()}
    read = read_patches(write_theirs(tmp_path / "S1.h5", attributes=trident_attributes(), **arrays))
    check_theirs(read, size_px=512, tile_px=256)
    assert read.features is not None
    assert read.features.dtype == (np.float16 if kind is np.float16 else np.float32)
    np.testing.assert_array_equal(read.features, features)


def test_a_magnification_that_trident_does_not_know_does_not_matter(tmp_path: Path) -> None:
    attributes = trident_attributes(level0_magnification="None", target_magnification="None", level0_width=-1)
    read = read_patches(write_theirs(tmp_path / "S1.h5", attributes=attributes, coords=COORDS))
    check_theirs(read, size_px=512, tile_px=256)
    assert read.dimensions is None


def test_coordinates_of_clam_are_scaled_by_their_level(tmp_path: Path) -> None:
    attributes = clam_attributes()
    path = write_theirs(tmp_path / "S1.h5", attributes=attributes, coords=COORDS.astype(np.int32))
    check_theirs(read_patches(path), size_px=1024, tile_px=256)
    with h5py.File(path, "r+") as file:
        del file["coords"].attrs["downsample"]
    with pytest.raises(InputError, match="unknown size"):
        read_patches(path)
    with h5py.File(path, "r+") as file:
        file["coords"].attrs["patch_level"] = 0
    check_theirs(read_patches(path), size_px=256, tile_px=256)


def test_an_ambiguous_custom_downsample_of_clam_needs_the_size(tmp_path: Path) -> None:
    path = write_theirs(tmp_path / "S1.h5", attributes=clam_attributes(custom_downsample=2), coords=COORDS)
    with pytest.raises(InputError, match="unknown size"):
        read_patches(path)
    check_theirs(read_patches(path, size_px=2048), size_px=2048, tile_px=256)


def test_features_of_clam_need_the_size_from_the_caller(tmp_path: Path) -> None:
    features = np.ones((4, 1024), np.float32)
    path = write_theirs(tmp_path / "S1.h5", coords=COORDS.astype(np.int32), features=features)
    with pytest.raises(InputError, match=r"S1\.h5: patches of unknown size; give it"):
        read_patches(path)
    check_theirs(read_patches(path, size_px=512.5), size_px=512.5, tile_px=None)


def test_coordinates_stored_as_whole_floats_are_read(tmp_path: Path) -> None:
    path = write_theirs(tmp_path / "S1.h5", attributes=trident_attributes(), coords=COORDS.astype(np.float32))
    check_theirs(read_patches(path), size_px=512, tile_px=256)


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        ([[0.0, 0.0], [np.nan, 5.0]], "row 1"),
        ([[0.0, np.inf]], "row 0"),
        ([[0.5, 0.0]], "whole level-0 pixels"),
        ([[0, 0], [-512, 0]], "row 1"),
        ([[5000, 0]], "inside"),
        ([[0, 4000]], "inside"),
        ([[0, 0, 512, 512]], "N, 2"),
        ([0, 0], "a row per patch"),
        ([[[0, 0]], [[1, 1]]], "a row per patch"),
        ([[True, False]], "a row per patch"),
        ([[b"0", b"0"]], "a row per patch"),
        ([[1j, 1j]], "a row per patch"),
    ],
)
def test_coordinates_that_make_no_sense_are_refused(tmp_path: Path, coords: list[Any], message: str) -> None:
    path = write_theirs(tmp_path / "S1.h5", attributes=trident_attributes(), coords=np.array(coords))
    with pytest.raises(InputError, match=message) as refused:
        read_patches(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_coordinates_too_large_for_any_slide_do_not_wrap(tmp_path: Path) -> None:
    for largest in (2**31, 2**64 - 1):
        coords = np.array([[largest, 0]], dtype=np.uint64)
        path = write_theirs(tmp_path / "S1.h5", attributes=clam_attributes(), coords=coords)
        with pytest.raises(InputError, match="row 0"):
            read_patches(path)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((3, 8), np.float32), "4 patches but 3 features"),
        (np.zeros(768, np.float32), "a row per patch"),
        (np.zeros((2, 4, 8), np.float32), "a row per patch"),
        (np.zeros((4, 8), np.uint16), "a row per patch"),
        (np.full((4, 8), np.inf, np.float16), "not finite at row 0"),
    ],
)
def test_features_that_cannot_be_used_are_refused(tmp_path: Path, features: np.ndarray, message: str) -> None:
    path = write_theirs(tmp_path / "S1.h5", attributes=trident_attributes(), coords=COORDS, features=features)
    with pytest.raises(InputError, match=message):
        read_patches(path)


def test_rows_that_were_never_written_are_not_read_as_zeros(tmp_path: Path) -> None:
    path = write_theirs(tmp_path / "S1.h5", attributes=trident_attributes(), coords=COORDS, features=np.ones((4, 8)))
    with h5py.File(path, "r+") as file:
        file["coords"].resize(6, axis=0)
        file["features"].resize(6, axis=0)
    with pytest.raises(InputError, match="hold fewer"):
        read_patches(path)


def test_features_that_were_never_written_at_all_are_not_read_as_zeros(tmp_path: Path) -> None:
    path = write_theirs(tmp_path / "S1.h5", attributes=trident_attributes(), coords=COORDS)
    with h5py.File(path, "r+") as file:
        file.create_dataset("features", shape=(4, 8), dtype=np.float32)
    with pytest.raises(InputError, match=r"features state .* hold fewer"):
        read_patches(path)


def test_a_file_without_coordinates_says_what_it_has(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "S1.h5", "w") as file:
        file.create_group("coords")
        file["imgs"] = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(InputError, match="no dataset 'coords', found coords, imgs"):
        read_patches(tmp_path / "S1.h5")


def test_the_patches_of_another_slide_are_refused(tmp_path: Path) -> None:
    stated = write_theirs(tmp_path / "S1.h5", attributes=trident_attributes(), coords=COORDS)
    with pytest.raises(InputError, match=r"slide of \(5000, 4000\) px, expected \(5000, 4001\)"):
        read_patches(stated, dimensions=(5000, 4001))
    unstated = write_theirs(tmp_path / "S2.h5", attributes=clam_attributes(), coords=COORDS)
    with pytest.raises(InputError, match="row 3"):
        read_patches(unstated, dimensions=(902, 4000))


def test_a_size_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    path = write_theirs(tmp_path / "S1.h5", attributes=trident_attributes(), coords=COORDS)
    assert read_patches(path, size_px=511.6).size_px == 512
    with pytest.raises(InputError, match="patches of 512 level-0 pixels, but 448 was given"):
        read_patches(path, size_px=448)


@pytest.mark.parametrize("size_px", [0.0, -1.0, float("nan"), float("inf")])
def test_a_size_that_is_no_length_is_refused(tmp_path: Path, size_px: float) -> None:
    path = write_theirs(tmp_path / "S1.h5", coords=COORDS)
    with pytest.raises(InputError, match="length above 0"):
        read_patches(path, size_px=size_px)
    with pytest.raises(InputError, match="length above 0"):
        write_ours(tmp_path / "S2.h5", size_px=size_px)


def test_coordinates_outside_the_slide_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 3"):
        write_ours(tmp_path / "S1.h5", dimensions=(5000, 1353))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ours", [True, False])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, ours: bool) -> None:
    whole = tmp_path / "S1.h5"
    if ours:
        write_ours(whole)
    else:
        write_theirs(whole, attributes=trident_attributes(), coords=COORDS, features=np.ones((4, 8), np.float32))
    content = whole.read_bytes()
    damaged = tmp_path / "damaged.h5"
    for length in [*range(0, len(content), 97), len(content) - 1]:
        damaged.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"damaged\.h5: not readable as HDF5"):
            read_patches(damaged)


def test_damaged_bytes_are_refused_or_read_as_valid_patches_and_never_crash(tmp_path: Path) -> None:
    write_ours(tmp_path / "ours.h5")
    write_theirs(tmp_path / "theirs.h5", attributes=trident_attributes(), coords=COORDS, features=np.ones((4, 8)))
    script = """
import sys
from pathlib import Path
import numpy as np
from data.errors import InputError
from data.patch_hdf5 import read_patches
rng = np.random.default_rng(7)
damaged = Path(sys.argv[1]) / "damaged.h5"
read = refused = 0
for name, count in (("ours.h5", 400), ("theirs.h5", 200)):
    content = np.frombuffer((damaged.parent / name).read_bytes(), np.uint8)
    for _ in range(count):
        bad = content.copy()
        start = rng.integers(len(bad))
        bad[start : start + rng.integers(1, 16)] = rng.integers(0, 256)
        damaged.write_bytes(bad.tobytes())
        try:
            patches = read_patches(damaged)
        except InputError as error:
            assert "\\n" not in str(error)
            refused += 1
        else:
            assert patches.features is None or len(patches.features) == len(patches.coords)
            read += 1
print(read, refused)
"""
    # In a process of its own, so that a crash of the HDF5 library is a failure and not the end of the tests.
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    read, refused = map(int, done.stdout.split())
    assert read + refused == 600
    assert refused > 0


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"\x89HDF\r\n\x1a\n" + bytes(600)])
def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "S1.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"S1\.h5: not readable as HDF5"):
        read_patches(path)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.h5", tmp_path):
        with pytest.raises(InputError, match="no such file"):
            read_patches(path)


@pytest.mark.parametrize(
    "name", ["S1.h5", "S1_patches.h5", "S1.svs.h5", "ward/S1.h5", "ward/S1.svs.h5", "ward/S1_patches.h5"]
)
def test_the_patch_file_of_a_slide_is_found_by_either_tool_s_name(tmp_path: Path, name: str) -> None:
    for other in ("S10.h5", "S1.h5.lock", "ward/S1.pt", "other/S1.h5"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).touch()
    assert find_patch_file(tmp_path, "ward/S1.svs") is None
    (tmp_path / name).touch()
    assert find_patch_file(tmp_path, "ward/S1.svs") == tmp_path / name


def test_a_compound_suffix_is_left_out_as_trident_does(tmp_path: Path) -> None:
    (tmp_path / "S1.h5").touch()
    assert find_patch_file(tmp_path, "S1.ome.tif") == tmp_path / "S1.h5"


def test_two_patch_files_for_one_slide_are_an_error_that_names_both(tmp_path: Path) -> None:
    (tmp_path / "S1.h5").touch()
    (tmp_path / "S1_patches.h5").touch()
    with pytest.raises(InputError, match=r"S1\.h5 and .*S1_patches\.h5"):
        find_patch_file(tmp_path, "S1.svs")
