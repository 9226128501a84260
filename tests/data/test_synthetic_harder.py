"""What makes a synthetic cohort harder: sites with stains of their own, findings not to be seen, wrong labels."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from data.atomic import digest
from data.config import PrepareConfig
from data.errors import InputError
from data.findings import read_findings
from data.manifest import read_manifest
from data.prepare import prepare
from data.synthetic.cohort import synth
from data.synthetic.config import SynthConfig
from data.synthetic.labels import add_label_noise, split_patients
from data.synthetic.style import draw_site, draw_style
from data.taxonomy import load_taxonomy

SMALL = {"patients": 12, "patches_per_patient": 4, "slides": 1, "slide_px": 1024, "patch_px": 64, "workers": 1}
HARDER = {
    "sites": 2,
    "stain_shift": 2.0,
    "held_out_sites": 1,
    "rare_findings": 0.5,
    "label_noise": 0.25,
    "patch_slides": 2,
}


def cohort(out: Path, **settings: object) -> Path:
    return synth(SynthConfig(**{"out": out, **SMALL, **settings}))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def harder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort(tmp_path_factory.mktemp("cohort") / "out", **HARDER)


def mean_colour(folder: Path, name: str) -> np.ndarray:
    image = cv2.imread(str(folder / name))
    assert image is not None
    return image.mean(axis=(0, 1))


def test_a_cohort_that_is_none_the_harder_is_the_one_of_before(tmp_path: Path) -> None:
    out = cohort(tmp_path / "out", patients=6, patches_per_patient=2, patch_px=96)
    # Of what was drawn before there were these settings; colours, since encoders of JPEG differ. The phrases of the
    # taxonomy are in the first digest.
    assert hashlib.sha256((out / "labels.csv").read_bytes()).hexdigest()[:16] == "65f74771f0600c2e"
    assert hashlib.sha256((out / "slides.csv").read_bytes()).hexdigest()[:16] == "60c617e40f030a9f"
    assert mean_colour(out, "patches/P001/001.jpg") == pytest.approx([145.12, 83.31, 148.59], abs=0.3)
    assert mean_colour(out, "patches/P006/002.jpg") == pytest.approx([170.37, 107.09, 173.85], abs=0.3)
    settings = {"patients": 6, "patches_per_patient": 2, "slides": 1, "slide_px": 1024, "patch_px": 96, "mpp": 0.5}
    key = digest(json.dumps(settings | {"seed": 2024}), load_taxonomy().key)
    assert json.loads((out / "run.json").read_text())["key"] == key


def test_each_setting_adds_its_columns_and_no_others(harder: Path, tmp_path: Path) -> None:
    plain = ["file_name", "patient_id", "label", "description", "mpp", "findings"]
    assert list(pd.read_csv(harder / "labels.csv")) == [*plain, "site", "slide_id", "split", "true_label"]
    few = {"patients": 3, "patches_per_patient": 1, "slides": 0}
    for number, (settings, added) in enumerate(
        [
            ({"sites": 2}, ["site"]),
            ({"patch_slides": 2}, ["slide_id"]),
            ({"label_noise": 0.1}, ["split", "true_label"]),
            ({"rare_findings": 0.1}, []),
        ]
    ):
        out = cohort(tmp_path / str(number), **few, **settings)
        assert list(pd.read_csv(out / "labels.csv")) == [*plain, *added]


def test_every_site_has_all_classes_and_those_held_out_are_tested_alone(harder: Path) -> None:
    labels = pd.read_csv(harder / "labels.csv")
    patients = labels.drop_duplicates("patient_id")
    counts = pd.crosstab(patients["site"], patients["true_label"])
    assert (counts.to_numpy() == 2).all()
    assert set(labels.loc[labels["split"] == "test", "site"]) == {"site-2"}
    assert set(labels.loc[labels["split"] != "test", "site"]) == {"site-1"}
    assert set(labels["split"]) == {"train", "val", "test"}
    assert (labels.groupby("patient_id")["split"].nunique() == 1).all()
    assert list(pd.read_csv(harder / "slides.csv")["site"]) == ["site-1"]


def test_patches_of_a_patient_are_dealt_to_its_slides(harder: Path) -> None:
    labels = pd.read_csv(harder / "labels.csv")
    assert labels.groupby("patient_id")["slide_id"].nunique().eq(2).all()
    assert labels.groupby("slide_id")["patient_id"].nunique().eq(1).all()
    assert labels.groupby("slide_id").size().eq(2).all()


def test_stains_of_two_sites_lie_further_apart_than_those_of_two_patients() -> None:
    def density(patient: int, site: int) -> np.ndarray:
        stain = draw_site(np.random.default_rng([7, site]), shift=1.0)
        return draw_style(np.random.default_rng([1, patient]), stain).density[:2].ravel()

    spread_of_patients = np.stack([density(patient, 0) for patient in range(40)]).std(axis=0).mean()
    spread_of_sites = np.stack([density(0, site) for site in range(40)]).std(axis=0).mean()
    assert spread_of_sites > 1.3 * spread_of_patients


def test_a_shift_moves_the_colours_of_a_site_and_none_leaves_them(tmp_path: Path) -> None:
    few = {"patients": 6, "patches_per_patient": 1, "slides": 0}
    plain = cohort(tmp_path / "plain", **few)
    shifted = cohort(tmp_path / "shifted", **few, sites=2, stain_shift=2.0)
    alike = cohort(tmp_path / "alike", **few, sites=2, stain_shift=0.0)
    names = [f"patches/P00{number}/001.jpg" for number in range(1, 7)]
    moved = np.stack([mean_colour(shifted, name) - mean_colour(plain, name) for name in names])
    same = np.stack([mean_colour(alike, name) - mean_colour(plain, name) for name in names])
    assert np.abs(same).max() == 0
    first, second = moved[:3].mean(axis=0), moved[3:].mean(axis=0)
    # All patients of a site go the same way, so that the sites part by more than what is left inside them.
    inside = np.concatenate([moved[:3] - first, moved[3:] - second])
    assert np.linalg.norm(first - second) > 2 * np.abs(inside).mean()


def test_findings_that_define_the_class_are_missing_from_picture_and_description_alike(harder: Path) -> None:
    taxonomy = load_taxonomy()
    labels = pd.read_csv(harder / "labels.csv")
    seen = []
    for row in labels.itertuples():
        findings = json.loads(str(row.findings))
        assert read_findings(str(row.description), taxonomy) == findings
        seen.append(taxonomy.classify(findings))
    hidden = (labels["true_label"] != "UD") & (pd.Series(seen) != labels["true_label"])
    assert set(pd.Series(seen)[hidden]) == {"UD"}
    assert 0.3 < hidden[labels["true_label"] != "UD"].mean() < 0.7


def test_a_share_of_the_labels_is_wrong_but_none_of_the_tested_ones(harder: Path) -> None:
    labels = pd.read_csv(harder / "labels.csv")
    wrong = labels["label"] != labels["true_label"]
    tested = labels["split"] == "test"
    assert not wrong[tested].any()
    assert wrong[~tested].mean() == 0.25
    assert set(labels["label"]) == {"UD", "PD", "D"}


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
def test_the_share_of_wrong_labels_holds_and_the_same_seed_gives_the_same_ones(tmp_path: Path, noise: float) -> None:
    table = pd.DataFrame(
        [{"patient_id": f"P{patient}", "label": "ABC"[patient % 3]} for patient in range(30) for _ in range(10)]
    )
    config = SynthConfig(out=tmp_path, label_noise=noise)
    table["split"] = split_patients(table, config)
    noisy = add_label_noise(table, config, classes=("A", "B", "C"))
    other = noisy["split"] != "test"
    assert (noisy["label"] != noisy["true_label"])[other].mean() == pytest.approx(noise, abs=0.005)
    assert noisy["true_label"].equals(table["label"])
    assert add_label_noise(table, config, classes=("A", "B", "C")).equals(noisy)
    assert {len(set(part)) for _, part in table.groupby("split")["label"]} == {3}


def test_prepare_takes_the_split_and_the_slides_of_the_cohort(harder: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(harder / "labels.csv")
    manifest = read_manifest(prepare(PrepareConfig(source=harder / "labels.csv", out=tmp_path / "patches.parquet")))
    assert list(manifest["split"]) == list(labels["split"])
    assert list(manifest["slide_id"]) == list(labels["slide_id"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rare_findings": 1.5}, "--rare_findings 1.5: give 0 to 1"),
        ({"label_noise": -0.1}, "--label_noise -0.1: give 0 to 1"),
        ({"sites": -1}, "--sites -1: give 0 or more"),
        ({"sites": 2, "held_out_sites": 2}, "--held_out_sites 2: give fewer than --sites, which is 2"),
    ],
)
def test_a_setting_out_of_range_is_named(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cohort(tmp_path / "out", **settings)
