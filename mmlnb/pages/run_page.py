"""The report of a whole run: what was measured on held-out patients, sample captions, and the slides."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from data.errors import InputError
from data.taxonomy import Taxonomy, load_taxonomy
from mmlnb.config import ReportConfig
from mmlnb.finished_slide import open_finished
from mmlnb.model_card import ARMS
from mmlnb.pages.beside import write_beside
from mmlnb.pages.figures import confusion_figure, interval_figure, reliability_figure, risk_coverage_figure
from mmlnb.pages.folder_page import slide_frame, slide_values, write_folder_page
from mmlnb.pages.measures import AGGREGATIONS, CLASS_MEASURES, known_measures, measures_frame, value_of
from mmlnb.pages.page import write_page
from mmlnb.pages.samples import held_out_samples
from mmlnb.pages.slide_page import write_slide_page
from mmlnb.pages.training_page import write_training_page
from mmlnb.palette import class_colours, css
from mmlnb.slide_outputs import output_path
from mmlnb.slide_record import SlideRecord, read_records


def report(config: ReportConfig) -> Path:
    """Write the pages of the run, each with JSON and CSV beside it, and return the path of the first.

    `index.html` holds what was measured and the slides, `training.html` how the models were trained; the pages of the
    slides, which `infer` wrote, are written again with `slide_pages`.

    Raises:
        InputError: the folder holds neither an evaluation, called slides nor a training.
    """
    run = config.run
    out = config.out or run / "report"
    metrics = _read_json(run / "evaluate" / "metrics.json")
    records = read_records(run / "infer")
    taxonomy = _taxonomy(run) if metrics is not None or records or _trained(run) else None
    if taxonomy is None:
        raise InputError(
            f"{run}: holds no evaluate/metrics.json, infer/, train/history.csv or finetune/history.csv; "
            "give the folder of a run"
        )
    if config.slide_pages:
        _write_slide_pages(run / "infer", records)
    training = write_training_page(run, out, taxonomy=taxonomy) if _trained(run) else None
    page = out / "index.html"
    _write_run_page(run, page, metrics, records, taxonomy=taxonomy, training=training)
    print(f"Report: {page}")
    return page


def slide_accuracy(records: Sequence[SlideRecord], truth: dict[str, str]) -> float | None:
    """Share of the slides with a known class that were called right; an uncalled one counts as wrong."""
    known = [record.subtype == truth[record.slide] for record in records if record.slide in truth]
    return sum(known) / len(known) if known else None


def _write_run_page(
    run: Path,
    page: Path,
    metrics: dict[str, Any] | None,
    records: Sequence[SlideRecord],
    *,
    taxonomy: Taxonomy,
    training: Path | None,
) -> None:
    scores, summary = _read_json(run / "caption-scores.json"), _read_json(run / "summary.json")
    truth = _slide_truth(run)
    notice = next((record.notice for record in records if record.notice), "")
    samples = held_out_samples(run, taxonomy) if metrics is not None else []
    write_page(
        "run.html.j2",
        page,
        notice=notice,
        taxonomy=taxonomy,
        colours={name: css(colour) for name, colour in class_colours(taxonomy).items()},
        summary=summary,
        metrics=metrics,
        arms=ARMS,
        measures={} if metrics is None else known_measures(metrics["fused"]),
        class_measures=CLASS_MEASURES,
        aggregations=AGGREGATIONS,
        value_of=value_of,
        figures={} if metrics is None else _figures(metrics),
        scores=scores,
        samples=samples,
        records=records,
        slides_folder=Path(os.path.relpath(run / "infer" / "slides", page.parent)).as_posix(),
        truth=truth,
        accuracy=slide_accuracy(records, truth),
        training=training and training.name,
    )
    tables: dict[str, pd.DataFrame] = {}
    if metrics is not None:
        tables[""] = measures_frame(metrics, ARMS)
    if records:
        tables["slides"] = slide_frame(records, taxonomy, truth)
    write_beside(
        page,
        {
            "notice": notice,
            "metrics": metrics,
            "captions": scores,
            "samples": [
                {name: value for name, value in asdict(sample).items() if name not in ("picture", "marked")}
                for sample in samples
            ],
            "slides": slide_values(records, truth),
            "slide_accuracy": slide_accuracy(records, truth),
            "cost": summary and {name: summary[name] for name in ("seconds", "peak_rss_gb")},
        },
        tables,
    )


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """The figures for which this evaluation has the measures, by name."""
    arms = {arm: metrics[arm] for arm in ARMS}
    classes, found = metrics["classes"], {}
    found["confusion"] = confusion_figure(
        metrics["fused"]["confusion"], classes, name="confusion", title="Confusion matrix of the patches, fused"
    )
    if all("calibration" in measured for measured in arms.values()):
        found["reliability"] = reliability_figure(arms)
    if all("risk_coverage" in measured for measured in arms.values()):
        found["risk_coverage"] = risk_coverage_figure(arms)
    rows = [(arm.replace("_", " "), measured) for arm, measured in arms.items()]
    if slides := metrics.get("slides"):
        called = slides["aggregations"]
        rows += [(f"slides, {title}", called[name]["fused"]) for name, title in AGGREGATIONS.items() if name in called]
        found["slide_confusion"] = confusion_figure(
            called["tissue_weighted"]["fused"]["confusion"],
            classes,
            name="slide-confusion",
            title="Confusion matrix of the slides, fused, mean weighted by tissue",
        )
    known = [
        (label, float(value), (measured["intervals"] or {}).get("balanced_accuracy"))
        for label, measured in rows
        if (value := measured["balanced_accuracy"]) is not None and "intervals" in measured
    ]
    if known:
        found["intervals"] = interval_figure(
            known, name="intervals", title="Balanced accuracy with 95 % intervals, by arm and by slide"
        )
    return found


def _write_slide_pages(folder: Path, records: Sequence[SlideRecord]) -> None:
    """Write the pages of the called slides in `folder`, and that of the folder, again."""
    if not records:
        return
    finished = open_finished(folder)
    taxonomy, notice = finished.bundle.taxonomy, finished.bundle.index.notice
    called = [record for record in records if record.status == "ok"]
    for record in tqdm(called, desc="Pages", unit="slide"):
        slide, read = finished.read(record)
        path = output_path(folder, "page", record.slide)
        write_slide_page(slide, path, taxonomy=taxonomy, notice=notice, read=read)
    write_folder_page(records, folder, taxonomy=taxonomy, notice=notice)


def _trained(run: Path) -> bool:
    return any((run / stage / "history.csv").is_file() for stage in ("train", "finetune"))


def _taxonomy(run: Path) -> Taxonomy:
    for folder in ("train", "bundle", "finetune"):
        if (run / folder / "taxonomy.yaml").is_file():
            return load_taxonomy(run / folder / "taxonomy.yaml")
    raise InputError(f"{run}: holds no taxonomy.yaml (in train/, bundle/ or finetune/); give the folder of a run")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _slide_truth(run: Path) -> dict[str, str]:
    """Known class of each slide, where the slides are synthetic."""
    path = run / "synth" / "slides.csv"
    if not path.is_file():
        return {}
    rows = pd.read_csv(path, dtype=str)
    return dict(zip(rows["slide"], rows["label"], strict=True))
