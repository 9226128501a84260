"""What synthetic patches look like, measured."""

import numpy as np
import pytest

from data.errors import InputError
from data.synthetic.style import PatientStyle, draw_style
from data.synthetic.tissue import render_amounts, render_patch
from data.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy()
PLAIN = {name: next(iter(finding.values)) for name, finding in TAXONOMY.findings.items()} | {"cellularity": "moderate"}


def style(seed: int = 4) -> PatientStyle:
    return draw_style(np.random.default_rng(seed))


def mean_over_patches(measure, count: int = 6, **findings: str) -> float:  # type: ignore[no-untyped-def]
    values = []
    for seed in range(count):
        rng = np.random.default_rng([11, seed])
        image = render_patch(PLAIN | findings, taxonomy=TAXONOMY, style=style(), size_px=224, mpp=0.5, rng=rng)
        values.append(measure(image.astype(float)))
    return float(np.mean(values))


def near_black(image: np.ndarray) -> float:
    return float((image.max(axis=-1) < 75).mean())


def orange(image: np.ndarray) -> float:
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    return float(((red > 160) & (green < 140) & (red - blue > 70)).mean())


def deep_blue(image: np.ndarray) -> float:
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    return float(((blue < 145) & (blue - red > 12) & (blue - green > 15) & (red < 75)).mean())


def purple(image: np.ndarray) -> float:
    return float((image[..., 0] < 140).mean())


def pale(image: np.ndarray) -> float:
    return float((image[..., 1] > 150).mean())


def test_more_cells_give_more_nuclei() -> None:
    low, moderate, high = (mean_over_patches(purple, cellularity=value) for value in ("low", "moderate", "high"))
    assert low * 1.6 < moderate
    assert moderate * 1.25 < high


def test_a_higher_index_gives_more_dark_fragments() -> None:
    low, some, many = (mean_over_patches(near_black, mki=value) for value in ("low", "intermediate", "high"))
    assert low * 1.5 < some
    assert some * 1.5 < many


@pytest.mark.parametrize(
    ("finding", "measure", "least"), [("haemorrhage", orange, 0.08), ("calcification", deep_blue, 0.02)]
)
def test_blood_and_calcium_show_in_their_colour(finding, measure, least: float) -> None:  # type: ignore[no-untyped-def]
    absent = mean_over_patches(measure, **{finding: "absent"})
    present = mean_over_patches(measure, **{finding: "present"})
    assert present - absent > least


def test_neuropil_is_paler_than_the_tissue_it_replaces() -> None:
    absent, scant, abundant = (mean_over_patches(pale, neuropil=value) for value in ("absent", "scant", "abundant"))
    assert absent + 0.05 < scant
    assert scant + 0.05 < abundant


def test_the_same_state_gives_the_same_patch_and_another_state_another() -> None:
    def draw(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return render_patch(PLAIN, taxonomy=TAXONOMY, style=style(), size_px=96, mpp=0.5, rng=rng)

    assert np.array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))


def test_patients_differ_in_colour() -> None:
    colours = []
    for patient in range(8):
        image = render_patch(
            PLAIN, taxonomy=TAXONOMY, style=style(patient), size_px=128, mpp=0.5, rng=np.random.default_rng(3)
        )
        colours.append(image.reshape(-1, 3).mean(axis=0))
    assert np.ptp(colours, axis=0).min() > 8


@pytest.mark.parametrize(("size_px", "mpp"), [(224, 0.25), (512, 0.5), (100, 1.0), (64, 2.0)])
def test_size_and_resolution_are_free(size_px: int, mpp: float) -> None:
    rng = np.random.default_rng(3)
    everything = {name: list(finding.values)[-1] for name, finding in TAXONOMY.findings.items()}
    image = render_patch(everything, taxonomy=TAXONOMY, style=style(), size_px=size_px, mpp=mpp, rng=rng)
    assert image.shape == (size_px, size_px, 3)
    assert image.dtype == np.uint8
    assert image.std() > 15


def test_all_amounts_at_their_most_can_be_drawn() -> None:
    amounts = dict.fromkeys(("cells", "fibrils", "spindle", "calcium", "blood", "necrosis"), 1.0)
    amounts |= {"rosettes": 8.0, "large_cells": 1.0, "fragments": 1.0}
    image = render_amounts(amounts, style=style(), size_px=128, mpp=0.5, rng=np.random.default_rng(3))
    assert image.std() > 15


def test_nothing_but_ground_is_drawn_without_amounts() -> None:
    image = render_amounts({}, style=style(), size_px=128, mpp=0.5, rng=np.random.default_rng(3))
    assert near_black(image.astype(float)) == 0


def test_a_resolution_that_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="mpp 8"):
        render_amounts({}, style=style(), size_px=128, mpp=8, rng=np.random.default_rng(3))
