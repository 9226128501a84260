"""Judge the captions of a manifest: `mmlnb evaluate-captions`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from data.atomic import digest, write_json, write_text
from data.caption_writers import check_writers
from data.captions import PATTERN
from data.claim import claim
from data.command import config_yaml, run_command
from data.taxonomy import Taxonomy, load_taxonomy
from vlm_finetune.judge.bootstrap import Estimate, Resampler, ratio
from vlm_finetune.judge.config import EvaluateCaptionsConfig
from vlm_finetune.judge.probe import Probe, probe_texts
from vlm_finetune.judge.references import ReferenceScores, score_references
from vlm_finetune.judge.report import show_table, write_table, write_worst
from vlm_finetune.judge.rows import JudgedRow, read_rows
from vlm_finetune.judge.statements import FindingCounts, count_findings, finding_table, macro_f1, share
from vlm_finetune.judge.wording import measure_wording

_SUMMED = ("hallucinated", "claimed", "omitted", "present", "misgraded", "unverifiable")


def evaluate_captions(config: EvaluateCaptionsConfig) -> Path:
    """Judge the captions of one split and return `config.out`.

    Writes config.yaml, metrics.json, per_finding.csv and worst.md.

    Raises:
        InputError: no rows or captions, findings that the taxonomy lacks, captions by a model that has read the
            patients' descriptions, or a folder of something else.
    """
    taxonomy = load_taxonomy(config.taxonomy)
    rows = read_rows(config.manifest, config.captions, split=config.split, taxonomy=taxonomy)
    if config.split in ("val", "test"):
        check_writers(config.captions, [row.patient for row in rows], split=config.split)
    claim(config.out, key=_key(config, taxonomy))
    write_text(config.out / "config.yaml", config_yaml(config))
    resampler = Resampler([row.patient for row in rows], resamples=config.resamples, seed=config.seed)
    counts = count_findings(rows, taxonomy)
    lines = finding_table(counts)
    figures = headline(counts, resampler)
    references = score_references(rows, resampler)
    labels = [row.label for row in rows]
    probes = {"captions": probe_texts([row.text for row in rows], labels, resampler)}
    if references is not None:
        probes["references"] = probe_texts([row.reference for row in rows], labels, resampler)
    write_table(config.out / "per_finding.csv", lines)
    write_worst(config.out / "worst.md", rows, counts, limit=config.worst)
    metrics: dict[str, Any] = {
        "split": config.split,
        "patches": len(rows),
        "patients": len(set(resampler.patients)),
        "captions": _completeness(rows),
        **{name: asdict(figure) for name, figure in figures.items()},
        **{name: int(sum(getattr(one, name).sum() for one in counts)) for name in _SUMMED},
        "per_finding": {line["finding"]: {k: v for k, v in line.items() if k != "finding"} for line in lines},
        "wording": asdict(measure_wording(rows, taxonomy)),
        "references": None if references is None else asdict(references),
        "probe": {name: asdict(probe) for name, probe in probes.items()},
    }
    # Last, since its presence says that the evaluation is whole.
    write_json(config.out / "metrics.json", metrics)
    print(show_table(lines) + "\n\n" + _summary(metrics, figures, references, probes))
    return config.out


def headline(counts: Sequence[FindingCounts], resampler: Resampler) -> dict[str, Estimate]:
    """The figures that stand for all findings, with their intervals.

    The hallucination rate is the share of findings stated to be there that are not; the omission rate the share of
    those that are there and denied or not stated; both over the findings that a denial gives a value. The contradiction
    rate is the share of captions that state a finding with two values.
    """

    def total(name: str) -> np.ndarray:
        return np.sum([getattr(one, name) for one in counts], axis=0, dtype=float)

    def rate(part: np.ndarray, whole: np.ndarray) -> Estimate:
        return resampler.estimate(np.stack([part, whole], axis=1), ratio)

    contradicted = np.any([one.contradicted for one in counts], axis=0)
    return {
        "macro_f1": resampler.estimate(*macro_f1(counts)),
        "hallucination_rate": rate(total("hallucinated"), total("claimed")),
        "omission_rate": rate(total("omitted"), total("present")),
        "contradiction_rate": rate(contradicted, np.ones(len(contradicted))),
    }


def _completeness(rows: Sequence[JudgedRow]) -> dict[str, Any]:
    missing = sum(not row.described for row in rows)
    failed = sum(row.error is not None for row in rows)
    empty = sum(row.described and row.error is None and not row.text for row in rows)
    return {
        "with_text": sum(bool(row.text) for row in rows),
        "missing": missing,
        "failed": failed,
        "empty": empty,
        "without_text_share": share(missing + failed + empty, len(rows)),
    }


def _key(config: EvaluateCaptionsConfig, taxonomy: Taxonomy) -> str:
    settings = {name: str(asdict(config)[name]) for name in ("split", "worst", "resamples", "seed")}
    parts = [path.read_bytes() for path in sorted(config.captions.glob(PATTERN))]
    return digest(json.dumps(settings, sort_keys=True), taxonomy.key, config.manifest.read_bytes(), *parts)


def _summary(
    metrics: dict[str, Any],
    figures: dict[str, Estimate],
    references: ReferenceScores | None,
    probes: dict[str, Probe],
) -> str:
    captions, wording = metrics["captions"], metrics["wording"]
    lines = [
        f"{metrics['patches']} patches of {metrics['patients']} patients in the split {metrics['split']}; "
        f"{captions['with_text']} captions, {captions['missing']} missing, {captions['failed']} failed, "
        f"{captions['empty']} empty"
    ]
    lines += [f"{name.replace('_', ' ')}: {figure}" for name, figure in figures.items()]
    if wording["words"] is not None:
        lines.append(
            f"repeated: {wording['repeated']:.3f}; distinct-2: {wording['distinct_2'] or 0:.3f}; "
            f"words: {wording['words']['mean']:.1f}; naming a class: {wording['names_class']:.3f}"
        )
    if references is not None:
        lines.append(f"BLEU {references.bleu:.1f}; chrF {references.chrf:.1f}; ROUGE-L {references.rouge_l}")
    for name, probe in probes.items():
        told = probe.reason or f"{probe.balanced_accuracy}, chance {probe.chance:.3f}"
        lines.append(f"class from the {name} alone, balanced accuracy: {told}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(run_command(evaluate_captions, EvaluateCaptionsConfig, name="evaluate-captions"))
