"""Captions are judged by what they state, against what is there and against what a person wrote."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mmlnb
from data.errors import InputError
from data.manifest import COLUMNS, write_manifest
from data.synthetic.amounts import draw_findings
from data.synthetic.describe import describe
from data.taxonomy import load_taxonomy
from mmlnb.cli import main
from vlm_finetune.finding_scores import finding_macro_f1
from vlm_finetune.judge.bootstrap import Resampler, ratio
from vlm_finetune.judge.evaluate import headline
from vlm_finetune.judge.rows import read_rows
from vlm_finetune.judge.statements import count_findings

TAXONOMY = load_taxonomy()
Judge = Callable[..., dict[str, Any]]


def patch(number: int, *, description: str | None = None, **values: Any) -> dict[str, Any]:
    return (
        dict.fromkeys(COLUMNS)
        | {"patch_id": f"p{number}", "patient_id": f"patient-{number}", "split": "test", "description": description}
        | values
    )


def write_captions(folder: Path, texts: dict[str, str | None], errors: dict[str, str] | None = None) -> Path:
    folder.mkdir(parents=True)
    rows = [
        {
            "patch_id": name,
            "text": text,
            "key": name,
            "tokens": len((text or "").split()),
            "mean_logprob": -1.0,
            "error": (errors or {}).get(name),
        }
        for name, text in texts.items()
    ]
    pd.DataFrame(rows).astype({"text": "string", "error": "string"}).to_parquet(folder / "part-0-0.parquet")
    return folder


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Judge captions of patches, the texts in their order; returns metrics.json."""

    def run(patches: list[dict[str, Any]], texts: list[str | None], **settings: Any) -> dict[str, Any]:
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        write_manifest(pd.DataFrame(patches), folder / "patches.parquet")
        named = dict(zip((row["patch_id"] for row in patches), texts, strict=False))
        errors = settings.pop("errors", None)
        out = mmlnb.evaluate_captions(
            manifest=folder / "patches.parquet",
            captions=write_captions(folder / "captions", named, errors),
            out=folder / "judged",
            **{"resamples": 50, **settings},
        )
        metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text("utf-8"))
        return metrics | {"folder": out}

    return run


@pytest.fixture(scope="module")
def cohort() -> list[dict[str, Any]]:
    """Four patients of each class with three patches each, with findings and a description."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(36):
        subtype = TAXONOMY.classes[TAXONOMY.class_names[index // 12]]
        findings = draw_findings(subtype, TAXONOMY, rng)
        text = describe(findings, TAXONOMY, rng)
        rows.append(
            patch(index, description=text, findings=findings, label=subtype.name, patient_id=f"patient-{index // 3}")
        )
    return rows


def test_captions_that_say_what_is_there_score_full_marks(judge: Judge, cohort: list[dict[str, Any]]) -> None:
    metrics = judge(cohort, [row["description"] for row in cohort])
    assert metrics["macro_f1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert metrics["hallucination_rate"]["value"] == metrics["omission_rate"]["value"] == 0
    assert metrics["contradiction_rate"]["value"] == 0
    assert metrics["references"]["bleu"] == pytest.approx(100)
    assert metrics["references"]["chrf"] == pytest.approx(100)
    assert metrics["references"]["rouge_l"]["value"] == pytest.approx(1)
    assert metrics["wording"]["names_class"] == 0
    assert "0 of 0 captions" in (metrics["folder"] / "worst.md").read_text("utf-8")


def test_invented_omitted_and_misjudged_findings_are_told_apart(judge: Judge) -> None:
    truth = {"necrosis": "absent", "calcification": "present", "neuropil": "abundant", "rosettes": "present"}
    metrics = judge(
        [patch(0, findings=truth)], ["Extensive necrosis, scant neuropil and rosettes; haemorrhage. No calcification."]
    )
    per_finding = metrics["per_finding"]
    assert per_finding["necrosis"]["hallucinated"] == 1
    assert per_finding["calcification"]["omitted"] == 1
    assert per_finding["neuropil"]["misgraded"] == 1
    assert per_finding["haemorrhage"]["unverifiable"] == 1
    assert per_finding["rosettes"]["f1"] == 1
    assert metrics["hallucination_rate"]["value"] == pytest.approx(1 / 3)
    assert metrics["omission_rate"]["value"] == pytest.approx(1 / 3)
    worst = (metrics["folder"] / "worst.md").read_text("utf-8")
    assert "not there: Necrosis (present; is absent)" in worst
    assert "omitted: Calcification (absent; is present)" in worst
    assert "to another degree: Neuropil (scant; is abundant)" in worst


def test_precision_and_recall_count_values_that_are_stated_and_known(judge: Judge) -> None:
    truths = ["present", "present", "present", "absent"]
    texts = ["Necrosis.", "No necrosis.", "Neuropil.", "Necrosis is absent."]
    patches = [patch(i, findings={"necrosis": value}) for i, value in enumerate(truths)]
    metrics = judge(patches, texts)
    line = metrics["per_finding"]["necrosis"]
    assert (line["known"], line["stated"], line["right"]) == (4, 3, 2)
    assert line["precision"] == pytest.approx(2 / 3)
    assert line["recall"] == pytest.approx(1 / 2)
    assert line["f1"] == pytest.approx(4 / 7)
    with (metrics["folder"] / "per_finding.csv").open(encoding="utf-8") as file:
        table = {row["finding"]: row for row in csv.DictReader(file)}
    assert float(table["necrosis"]["precision"]) == pytest.approx(2 / 3)
    assert table["rosettes"]["precision"] == ""


def test_the_macro_f1_is_the_one_that_training_reports(tmp_path: Path, cohort: list[dict[str, Any]]) -> None:
    manifest = tmp_path / "patches.parquet"
    write_manifest(pd.DataFrame(cohort), manifest)
    shifted = {
        row["patch_id"]: other["description"] for row, other in zip(cohort, cohort[7:] + cohort[:7], strict=True)
    }
    rows = read_rows(manifest, write_captions(tmp_path / "captions", shifted), split="test", taxonomy=TAXONOMY)
    figures = headline(count_findings(rows, TAXONOMY), Resampler([row.patient for row in rows], resamples=200, seed=1))
    scores = finding_macro_f1([row.truth for row in rows], [row.stated for row in rows], TAXONOMY)
    assert figures["macro_f1"].value == pytest.approx(scores.macro_f1)
    assert figures["macro_f1"].low is not None and figures["macro_f1"].high is not None
    assert figures["macro_f1"].low < scores.macro_f1 < figures["macro_f1"].high


def test_the_truth_is_read_from_the_reference_where_no_findings_are_known(judge: Judge) -> None:
    metrics = judge(
        [patch(0, description="No necrosis, abundant neuropil.")], ["Necrosis; abundant neuropil; rosettes."]
    )
    assert metrics["per_finding"]["necrosis"]["hallucinated"] == 1
    assert metrics["per_finding"]["neuropil"]["right"] == 1
    assert metrics["per_finding"]["rosettes"] | {"known": 0, "unverifiable": 1} == metrics["per_finding"]["rosettes"]


@pytest.mark.parametrize(
    ("text", "contradicts"),
    [
        ("Abundant neuropil. Elsewhere scant neuropil.", True),
        ("No rosettes. Rosettes are seen.", True),
        ("Rosettes lie in a pale matrix. No rosettes.", True),
        ("Abundant neuropil. Rosettes lie in the neuropil.", False),
        ("No necrosis, and necrosis is absent elsewhere.", False),
        ("Possible necrosis. No necrosis.", False),
    ],
)
def test_a_caption_contradicts_itself_by_two_values_of_one_finding(judge: Judge, text: str, contradicts: bool) -> None:
    assert judge([patch(0)], [text])["contradiction_rate"]["value"] == float(contradicts)


@pytest.mark.parametrize(
    ("text", "sentence", "words"),
    [
        ("No necrosis. No necrosis.", 1.0, 0.0),
        ("We see many small round cells, many small round cells.", 0.0, 1.0),
        ("Scant neuropil. No necrosis.", 0.0, 0.0),
    ],
)
def test_repetition_is_found_in_sentences_and_in_four_words(
    judge: Judge, text: str, sentence: float, words: float
) -> None:
    wording = judge([patch(0)], [text])["wording"]
    assert (wording["repeated_sentence"], wording["repeated_4gram"]) == (sentence, words)


def test_length_and_variety_are_those_of_the_texts(judge: Judge) -> None:
    wording = judge([patch(0), patch(1)], ["red red blue", "red"])["wording"]
    assert wording["words"] == {"mean": 2.0, "median": 2.0, "shortest": 1.0, "longest": 3.0}
    assert wording["tokens"]["longest"] == 3.0
    assert wording["distinct_1"] == pytest.approx(2 / 4)
    assert wording["distinct_2"] == 1.0


def test_a_caption_that_names_the_class_is_counted_and_one_that_names_a_finding_is_not(judge: Judge) -> None:
    patches = [patch(number, label="UD") for number in range(3)]
    texts: list[str | None] = [
        "An undifferentiated neuroblastoma.",
        "Differentiating neuroblasts.",
        "A differentiating tumour.",
    ]
    wording = judge(patches, texts)["wording"]
    assert wording["names_class"] == pytest.approx(2 / 3)
    assert wording["names_true_class"] == pytest.approx(1 / 3)


def test_missing_failed_and_empty_captions_are_counted_apart_and_state_nothing(judge: Judge) -> None:
    patches = [patch(number, findings={"necrosis": "present"}, description="Necrosis.") for number in range(4)]
    metrics = judge(patches, ["Necrosis.", " ", "Necrosis."], errors={"p2": "out of memory"})
    assert metrics["captions"] == {"with_text": 1, "missing": 1, "failed": 1, "empty": 1, "without_text_share": 0.75}
    assert metrics["omission_rate"]["value"] == 0.75
    assert metrics["references"]["patches"] == 4
    assert metrics["references"]["rouge_l"]["value"] == pytest.approx(0.25)
    assert "(none: out of memory)" in (metrics["folder"] / "worst.md").read_text("utf-8")


def test_the_probe_finds_the_class_that_the_words_give_away_and_none_where_they_do_not(
    judge: Judge, cohort: list[dict[str, Any]]
) -> None:
    told = judge(cohort, [f"cells like {row['label']}{row['label']}" for row in cohort])["probe"]["captions"]
    assert told["balanced_accuracy"]["value"] == 1.0
    assert (told["patches"], told["folds"], told["chance"]) == (36, 4, pytest.approx(1 / 3))
    silent = judge(cohort, ["Cells."] * len(cohort))["probe"]["captions"]
    assert silent["balanced_accuracy"]["value"] <= 0.5


def test_the_probe_is_tested_on_patients_that_it_has_not_seen(judge: Judge, cohort: list[dict[str, Any]]) -> None:
    # Each patient has a word of its own: it tells the class to whoever has seen the patient, and nothing otherwise.
    words = [f"word{row['patient_id'].replace('-', '')}" for row in cohort]
    assert judge(cohort, words)["probe"]["captions"]["balanced_accuracy"]["value"] <= 0.5


@pytest.mark.parametrize(
    "patches",
    [
        [patch(0)],
        [patch(number, label="UD") for number in range(4)],
        [patch(number, label=("UD", "PD")[number % 2], patient_id="one") for number in range(4)],
        [patch(number, patient_id=None) for number in range(3)],
    ],
    ids=["one patch", "one class", "one patient", "no patients"],
)
def test_what_cannot_be_measured_is_left_out_with_a_reason(judge: Judge, patches: list[dict[str, Any]]) -> None:
    metrics = judge(patches, ["Scant neuropil."] * len(patches))
    assert metrics["probe"]["captions"]["balanced_accuracy"]["value"] is None
    assert metrics["probe"]["captions"]["reason"]
    assert metrics["references"] is None
    assert metrics["macro_f1"]["value"] is None


def test_captions_without_any_text_are_judged_all_the_same(judge: Judge, cohort: list[dict[str, Any]]) -> None:
    metrics = judge(cohort, [None] * len(cohort))
    assert metrics["macro_f1"]["value"] == 0
    assert metrics["omission_rate"]["value"] == 1
    assert metrics["hallucination_rate"]["value"] is None
    assert metrics["wording"]["words"] is None
    assert metrics["references"]["bleu"] == 0


def test_intervals_resample_patients_and_not_patches() -> None:
    # Two patients of 50 alike patches: the mean of a resample is 0, 0.5 or 1.
    rows = np.stack([np.repeat([0.0, 1.0], 50), np.ones(100)], axis=1)
    estimate = Resampler(["a"] * 50 + ["b"] * 50, resamples=500, seed=0).estimate(rows, ratio)
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.0, 1.0)
    again = Resampler(["a"] * 50 + ["b"] * 50, resamples=500, seed=0).estimate(rows, ratio)
    assert again == estimate


def test_the_interval_of_a_mean_over_many_patients_is_that_of_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(0).normal(1, 0.3, 80)
    theirs = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1))
    rows = np.stack([values, np.ones(80)], axis=1)
    ours = Resampler([str(i) for i in range(80)], resamples=4000, seed=0).estimate(rows, ratio)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.01)


def test_the_same_captions_give_the_same_bytes_and_others_are_refused(
    tmp_path: Path, cohort: list[dict[str, Any]]
) -> None:
    manifest, out = tmp_path / "patches.parquet", tmp_path / "judged"
    write_manifest(pd.DataFrame(cohort), manifest)
    captions = write_captions(tmp_path / "captions", {row["patch_id"]: row["description"] for row in cohort})
    arguments = ["evaluate-captions", "--manifest", str(manifest), "--captions", str(captions), "--out", str(out)]
    assert main([*arguments, "--resamples", "20"]) == 0
    before = (out / "metrics.json").read_bytes()
    assert main([*arguments, "--resamples", "20"]) == 0
    assert (out / "metrics.json").read_bytes() == before
    assert main([*arguments, "--resamples", "30"]) == 2


def test_the_table_names_every_finding(
    judge: Judge, cohort: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    judge(cohort, [row["description"] for row in cohort])
    shown = capsys.readouterr().out
    assert all(f"\n{name}" in shown for name in TAXONOMY.findings)
    assert "macro f1: 1.000 (1.000–1.000)" in shown
    assert "36 patches of 12 patients" in shown


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "val"}, "no rows in the split val"),
        ({"resamples": -1}, "--resamples -1: give 0 or more"),
    ],
)
def test_what_cannot_be_judged_is_said(judge: Judge, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        judge([patch(0)], ["Necrosis."], **settings)


def test_findings_that_the_taxonomy_lacks_are_named(judge: Judge) -> None:
    with pytest.raises(InputError, match="p0 has the finding osteoid: present, which neuroblastoma lacks"):
        judge([patch(0, findings={"osteoid": "present"})], ["Osteoid."])


def test_captions_of_other_patches_are_refused(tmp_path: Path) -> None:
    write_manifest(pd.DataFrame([patch(0)]), tmp_path / "patches.parquet")
    captions = write_captions(tmp_path / "captions", {"other": "Necrosis."})
    with pytest.raises(InputError, match="describes no patch of the split test"):
        read_rows(tmp_path / "patches.parquet", captions, split="test", taxonomy=TAXONOMY)
