"""Stain normalisation, one map for each slide."""

import json
import pickle
import sys
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from drawn_slide import draw_glass
from PIL import Image

from data.errors import InputError
from data.image import read_image
from data.normalise import Method, Stain, fit_stain, normalise, reference_stain
from data.stain import optical_density

torchstain = pytest.importorskip("torchstain")

METHODS = get_args(Method)


# Optical density of red, green, blue per unit of haematoxylin and of eosin, of about unit length as Macenko's.
STAINS = np.array([[0.65, 0.70, 0.29], [0.20, 0.88, 0.43]])
OTHER_STAINS = np.array([[0.50, 0.74, 0.45], [0.12, 0.78, 0.61]])


def draw_stained(stains: np.ndarray, *, strength: tuple[float, float], seed: int = 0) -> np.ndarray:
    """Return RGB uint8 (300, 400, 3) of two stains in blots of their own, as Beer and Lambert have it, and glass."""
    rng = np.random.default_rng(seed)
    blots = cv2.GaussianBlur(rng.normal(size=(300, 400, 2)), (0, 0), 6)
    amounts = np.clip(blots / blots.std() * 0.5 + 0.5, 0, 2) * strength
    amounts[:, :40] = 0
    return np.clip(240 * np.exp(-amounts @ stains), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    return draw_stained(STAINS, strength=(1.5, 1.0))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "reference.png"
    Image.fromarray(draw_stained(OTHER_STAINS, strength=(0.9, 1.3), seed=1)).save(path)
    return path


def test_macenko_finds_the_stains_that_were_drawn(tissue: np.ndarray) -> None:
    *stains, highest = fit_stain("macenko", tissue[None]).parameters
    np.testing.assert_allclose(stains, STAINS / np.linalg.norm(STAINS, axis=1)[:, None], atol=0.06)
    assert highest[0] > highest[1] > 1


def torchstains_own(method: Method, pixels: np.ndarray, reference: np.ndarray) -> np.ndarray:
    if method == "macenko":
        macenko = torchstain.normalizers.MacenkoNormalizer(backend="numpy")
        macenko.fit(reference)
        return macenko.normalize(pixels, stains=False)[0]
    reinhard = torchstain.normalizers.ReinhardNormalizer(backend="numpy")
    reinhard.fit(reference)
    return reinhard.normalize(pixels)


@pytest.mark.parametrize("method", METHODS)
def test_a_slide_of_one_image_is_normalised_as_torchstain_does(
    method: Method, tissue: np.ndarray, reference: Path
) -> None:
    pixels = tissue.copy()
    # Colours of no stain, pure black, white and ink among them.
    rng = np.random.default_rng(0)
    pixels[:5] = rng.integers(0, 256, pixels[:5].shape)
    pixels[:5, :8] = (np.indices((2, 2, 2)).reshape(3, 8).T * 255)[None]
    slide = fit_stain(method, pixels[None])
    result = normalise(pixels, slide=slide, reference=reference_stain(method, reference))
    assert result.dtype == np.uint8
    expected = torchstains_own(method, pixels, read_image(reference))
    difference = np.abs(result.astype(int) - expected)
    assert np.percentile(difference, 99) <= 1
    assert np.percentile(difference, 99.99) <= 3
    assert np.abs(pixels.astype(int) - expected).mean() > 10


@pytest.mark.parametrize("method", METHODS)
def test_the_reference_stays_as_it_is(method: Method, reference: Path) -> None:
    stain = reference_stain(method, reference)
    pixels = read_image(reference)
    change = np.abs(normalise(pixels, slide=stain, reference=stain).astype(int) - pixels)
    assert np.percentile(change, 99) <= 1


@pytest.mark.parametrize("method", METHODS)
def test_the_same_tissue_stained_otherwise_becomes_the_reference(method: Method, reference: Path) -> None:
    wanted = read_image(reference)
    pixels = draw_stained(STAINS, strength=(1.5, 1.0), seed=1)
    result = normalise(pixels, slide=fit_stain(method, pixels[None]), reference=reference_stain(method, reference))
    before, after = (np.abs(image.astype(int) - wanted).mean() for image in (pixels, result))
    # Reinhard shifts and scales colours whatever stain they are of.
    assert after < before / (5 if method == "macenko" else 1.5)


@pytest.mark.parametrize("method", METHODS)
def test_all_tiles_of_a_slide_are_mapped_alike(method: Method, tissue: np.ndarray, reference: Path) -> None:
    tiles = np.stack([tissue[60:284, 60:284], tissue[20:244, 100:324], draw_glass(width=224, height=224)])
    tiles[:, 100:110, 100:110] = (150, 90, 160)
    stains = {"slide": fit_stain(method, tiles), "reference": reference_stain(method, reference)}
    result = normalise(tiles, **stains)
    assert result.shape == tiles.shape
    assert len(np.unique(result[:, 100:110, 100:110].reshape(-1, 3), axis=0)) == 1
    np.testing.assert_array_equal(result[1], normalise(tiles[1], **stains))


def test_macenko_needs_no_reference_and_reinhard_does(tissue: np.ndarray) -> None:
    default = reference_stain("macenko")
    assert default.source == "torchstain default"
    result = normalise(tissue, slide=fit_stain("macenko", tissue[None]), reference=default)
    fitted = fit_stain("macenko", result[None])
    np.testing.assert_allclose(np.concatenate(fitted.parameters), np.concatenate(default.parameters), atol=0.05)
    with pytest.raises(InputError, match="no reference image"):
        reference_stain("reinhard")


@pytest.mark.parametrize("method", METHODS)
def test_a_large_sample_gives_the_stain_of_all_of_it(method: Method, tissue: np.ndarray) -> None:
    whole = fit_stain(method, tissue[None])
    many = fit_stain(method, np.broadcast_to(tissue, (40, *tissue.shape)))
    np.testing.assert_allclose(np.concatenate(many.parameters), np.concatenate(whole.parameters), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_real_patients_come_closer(method: Method, real_data: Path) -> None:
    patients = [
        np.stack([cv2.resize(read_image(path), (256, 256)) for path in sorted(real_data.glob(f"osteosarcoma/{name}"))])
        for name in ("*___Case-3-*", "*___Case-4-*", "*___Case-48-*", "*___P9-*")
    ]
    reference = fit_stain(method, patients[1])
    result = [normalise(pixels, slide=fit_stain(method, pixels), reference=reference) for pixels in patients]
    assert spread_of_stain(result) < 0.75 * spread_of_stain(patients)


def spread_of_stain(patients: list[np.ndarray]) -> float:
    densities = [optical_density(pixels).reshape(-1, 3) for pixels in patients]
    means = np.array([density[density.mean(axis=-1) > 0.1].mean(axis=0) for density in densities])
    return float(np.linalg.norm(means - means.mean(axis=0), axis=1).mean())


def test_a_stain_travels_and_tells_its_source(reference: Path) -> None:
    stain = reference_stain("macenko", reference)
    assert pickle.loads(pickle.dumps(stain)) == stain
    assert hash(stain) == hash(reference_stain("macenko", reference))
    record = json.loads(json.dumps(asdict(stain), allow_nan=False))
    assert record["method"] == "macenko"
    assert record["source"].startswith("reference.png (")
    other = reference.with_name("other") / reference.name
    other.parent.mkdir()
    Image.fromarray(read_image(reference)[:200]).save(other)
    assert reference_stain("macenko", other).source != stain.source


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "reason"), [("grey", "grey"), ("glass", "only 0 of"), ("pink", "one colour only"), ("none", "only 0 of 0")]
)
def test_samples_without_stain_are_refused(method: Method, name: str, reason: str) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(50, 220, (2, 64, 64, 1)) + rng.normal(0, 6, (2, 64, 64, 3))
    samples = {
        "grey": np.clip(grey, 0, 255).astype(np.uint8),
        "glass": draw_glass(width=64, height=64)[None],
        "pink": np.full((1, 64, 64, 3), (200, 120, 170), dtype=np.uint8),
        "none": np.zeros((0, 64, 64, 3), dtype=np.uint8),
    }
    with pytest.raises(InputError, match=f"slide.svs: {reason}"):
        fit_stain(method, samples[name], source="slide.svs")


def test_a_missing_or_grey_reference_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.png: no such image"):
        reference_stain("macenko", tmp_path / "absent.png")
    Image.fromarray(np.full((64, 64), 120, dtype=np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(InputError, match=r"grey\.png: grey"):
        reference_stain("reinhard", tmp_path / "grey.png")


def test_an_absent_torchstain_is_named_and_not_needed_to_map(
    monkeypatch: pytest.MonkeyPatch, tissue: np.ndarray
) -> None:
    slide, reference = fit_stain("macenko", tissue[None]), reference_stain("macenko")
    monkeypatch.setitem(sys.modules, "torchstain", None)
    for call in (lambda: fit_stain("macenko", tissue[None]), lambda: reference_stain("macenko")):
        with pytest.raises(InputError, match=r"pip install 'mmlnb\[stain\]'"):
            call()
    assert normalise(tissue, slide=slide, reference=reference).shape == tissue.shape


def test_colours_of_no_stain_end_at_black_and_white(tissue: np.ndarray) -> None:
    # Stains this close tell little apart, so that what lies beside both is blown up.
    slide = Stain("macenko", ((0.60, 0.70, 0.38), (0.57, 0.72, 0.40), (1.0, 1.0)), source="drawn")
    reference = fit_stain("macenko", tissue[None])
    corners = np.indices((2, 2, 2)).reshape(3, 1, 8).T.astype(np.uint8) * 255  # (8, 1, 3)
    density = -np.log((corners.astype(float) + 1) / 240)
    amounts = density @ np.linalg.pinv(slide.parameters[:2]) * np.divide(reference.parameters[2], slide.parameters[2])
    exact = 240 * np.exp(-amounts @ np.array(reference.parameters[:2])) - 1
    assert exact.max() > 1e12
    result = normalise(corners, slide=slide, reference=reference)
    np.testing.assert_allclose(result, np.clip(exact, 0, 255), atol=0.6)


def test_stains_of_two_methods_do_not_mix(tissue: np.ndarray) -> None:
    slide: Stain = fit_stain("reinhard", tissue[None])
    with pytest.raises(ValueError, match="reinhard"):
        normalise(tissue, slide=slide, reference=reference_stain("macenko"))
