"""The same picture is found again however it was compressed, and no two others are taken for it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.image import read_image
from data.near_duplicates import _BY_FREQUENCY, LARGEST_DISTANCE, near_duplicates
from data.perceptual_hash import hash_bits, perceptual_hash, turned
from data.synthetic.cohort import synth
from data.synthetic.config import SynthConfig

SIDE = 224


def recompressed(pixels: np.ndarray, *, quality: int, side: int | None = None) -> np.ndarray:
    image = Image.fromarray(pixels)
    if side is not None:
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def cut(pixels: np.ndarray) -> list[np.ndarray]:
    tops, lefts = (range(0, length - SIDE + 1, SIDE) for length in pixels.shape[:2])
    return [pixels[top : top + SIDE, left : left + SIDE] for top in tops for left in lefts]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Synthetic patches of twelve patients."""
    out = synth(
        SynthConfig(out=tmp_path_factory.mktemp("drawn"), patients=12, patches_per_patient=6, slides=0, workers=1)
    )
    return [read_image(path) for path in sorted(out.glob("patches/*/*.jpg"))]


@pytest.fixture(scope="module")
def real(real_data: Path) -> list[np.ndarray]:
    """Patches of four children, glass and all."""
    return [patch for path in sorted((real_data / "osteosarcoma").glob("*.jpg")) for patch in cut(read_image(path))]


@pytest.mark.parametrize("which", ["drawn", "real"])
@pytest.mark.parametrize(("quality", "side"), [(75, None), (30, None), (20, None), (75, 256), (75, 112)])
def test_a_copy_is_found_and_nothing_else(
    which: str, quality: int, side: int | None, request: pytest.FixtureRequest
) -> None:
    patches = request.getfixturevalue(which)[::3]
    hashes = [perceptual_hash(patch) for patch in patches]
    copies = [perceptual_hash(recompressed(patch, quality=quality, side=side)) for patch in patches]
    told = [index for index, hashed in enumerate(hashes) if hashed is not None and copies[index] is not None]
    pairs = near_duplicates([*hashes, *copies], ["own"] * len(hashes) + ["copy"] * len(copies))
    assert [(pair.first, pair.second) for pair in pairs] == [(index, index + len(patches)) for index in told]
    lost = sum(hashed is not None for hashed in hashes) - len(told)
    assert lost <= 0.01 * len(patches)


@pytest.mark.parametrize("which", ["drawn", "real"])
def test_no_two_different_patches_are_taken_for_one(which: str, request: pytest.FixtureRequest) -> None:
    hashes = [perceptual_hash(patch) for patch in request.getfixturevalue(which)]
    assert sum(hashed is not None for hashed in hashes) >= 0.85 * len(hashes), "the rest is glass and smooth matrix"
    assert near_duplicates(hashes, range(len(hashes))) == []


def test_a_turned_or_mirrored_copy_is_found(drawn: list[np.ndarray]) -> None:
    patches = drawn[:12]
    for turns in range(4):
        for mirrored in (False, True):
            copies = [np.rot90(patch[:, ::-1] if mirrored else patch, turns) for patch in patches]
            copies = [recompressed(np.ascontiguousarray(copy), quality=50) for copy in copies]
            for first, second in ((patches, copies), (copies, patches)):
                hashes = [perceptual_hash(patch) for patch in [*first, *second]]
                pairs = near_duplicates(hashes, [0] * 12 + [1] * 12)
                assert [(pair.first, pair.second) for pair in pairs] == [(n, n + 12) for n in range(12)]


def test_a_copy_of_other_brightness_and_contrast_is_found(drawn: list[np.ndarray]) -> None:
    copies = [np.clip(patch * 0.7 + 30, 0, 255).astype(np.uint8) for patch in drawn]
    pairs = near_duplicates([perceptual_hash(patch) for patch in [*drawn, *copies]], [0] * 72 + [1] * 72)
    assert [(pair.first, pair.second) for pair in pairs] == [(number, number + 72) for number in range(72)]


def test_the_eight_positions_of_a_hash_are_those_of_its_patch(drawn: list[np.ndarray]) -> None:
    bits = hash_bits([perceptual_hash(drawn[0]) or ""])
    found = [(position != bits).sum() for position in turned(bits)]
    assert found[0] == 0 and min(found[1:]) > LARGEST_DISTANCE
    upright = [np.rot90(side, turns) for side in (drawn[0], drawn[0][:, ::-1]) for turns in range(4)]
    hashes = [hash_bits([perceptual_hash(patch) or ""]) for patch in upright]
    # Each patch is nearest to a position of its own.
    nearest = {int(np.argmin([(position != one).sum() for position in turned(bits)])) for one in hashes}
    assert nearest == set(range(8))


def glass(kind: str, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    pixels = np.full((SIDE, SIDE, 3), 242.0)
    if kind == "noise":
        pixels += random.normal(0, 2, pixels.shape)
    elif kind == "shadow":
        pixels -= np.linspace(0, 40, SIDE)[:, None] + random.normal(0, 1, pixels.shape)
    elif kind == "gradient":
        pixels -= np.linspace(0, 200, SIDE)[:, None, None]
    elif kind == "stripes":
        pixels[:, np.arange(SIDE) // 14 % 2 == seed % 2] = 150
    elif kind == "edge":
        pixels[:, SIDE // 2 :] = 200
    elif kind == "speck":
        top, left = random.integers(0, SIDE - 20, 2)
        pixels[top : top + 20, left : left + 20] = (150, 60, 120)
    elif kind == "corner":
        pixels[-16:, -12:] = random.integers(60, 200, (16, 12, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["plain", "noise", "shadow", "gradient", "stripes", "edge", "speck", "corner"])
def test_glass_and_plain_shapes_have_no_hash(kind: str) -> None:
    for seed in range(5):
        assert perceptual_hash(glass(kind, seed)) is None
        assert perceptual_hash(recompressed(glass(kind, seed), quality=30)) is None


def flipped(hashed: str, count: int, random: np.random.Generator) -> str:
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(hashed), dtype=np.uint8))
    bits[random.choice(np.arange(1, 256), count, replace=False)] ^= 1
    return np.packbits(bits).tobytes().hex()


def drawn_hashes(count: int, random: np.random.Generator) -> list[str]:
    packed = random.integers(0, 256, (count, 32), dtype=np.uint8)
    packed[:, 0] &= 127  # The mean has no bit.
    return [row.tobytes().hex() for row in packed]


def test_every_copy_of_up_to_15_bits_is_found_among_many_thousands() -> None:
    random = np.random.default_rng(0)
    hashes = drawn_hashes(20_000, random)
    planted = {number: 19_999 - number for number in range(100)}
    for number, copy in planted.items():
        hashes[copy] = flipped(hashes[number], number % 16, random)
    pairs = near_duplicates(hashes, ["train"] * 12_000 + ["test"] * 8_000)
    assert {pair.first: pair.second for pair in pairs} == planted
    assert [pair.distance for pair in pairs] == [number % 16 for number in planted]


@pytest.mark.parametrize("band", range(16))
def test_a_copy_that_agrees_in_a_single_band_is_found(band: int) -> None:
    (hashed,) = drawn_hashes(1, np.random.default_rng(band))
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(hashed), dtype=np.uint8))
    # One bit of every other band; the very first is that of the mean, which is never set.
    bits[[_BY_FREQUENCY[16 * other + 1] for other in range(16) if other != band]] ^= 1
    pairs = near_duplicates([hashed, np.packbits(bits).tobytes().hex()], ["train", "test"])
    assert [(pair.first, pair.second, pair.distance) for pair in pairs] == [(0, 1, 15)]


def test_copies_on_one_side_and_rows_without_a_hash_are_no_pairs() -> None:
    random = np.random.default_rng(0)
    (hashed,) = drawn_hashes(1, random)
    assert near_duplicates([hashed, flipped(hashed, 3, random), None, None], ["a", "a", "a", "b"]) == []
    assert near_duplicates([], []) == []
    assert near_duplicates([hashed], ["a"]) == []


def test_of_many_equal_pictures_on_a_side_one_stands_for_all() -> None:
    random = np.random.default_rng(0)
    (hashed,) = drawn_hashes(1, random)
    pairs = near_duplicates([hashed] * 3000 + [flipped(hashed, 5, random)] * 3000, ["a"] * 3000 + ["b"] * 3000)
    assert [(pair.first, pair.second, pair.distance) for pair in pairs] == [(0, 3000, 5)]
