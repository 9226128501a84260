"""A folder of slides in; a subtype per slide, with the written findings, out."""

import time
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from data.atomic import digest, write_text
from data.claim import claim
from data.command import config_yaml
from data.errors import InputError
from data.find_slides import find_slides, slide_id
from data.slide import Slide, open_slide
from data.taxonomy import Taxonomy
from data.tissue import check_stain
from mmlnb.aggregate import aggregate
from mmlnb.bundles import Bundle, load_bundle
from mmlnb.config import InferConfig
from mmlnb.geojson import slide_geojson
from mmlnb.pages.folder_page import write_folder_page
from mmlnb.pages.slide_page import write_slide_page
from mmlnb.slide_prediction import SlidePipeline, SlidePrediction, write_predictions
from mmlnb.slide_record import SlideRecord, SlideRecords, Status, file_stamp

SOME_NOT_CALLED = 3


def infer(config: InferConfig) -> int:
    """Call every slide below `config.slides`; return 0, or 3 when some were not called.

    A slide that cannot be used is listed in slides.csv with its reason, and the others are finished. Slides that an
    earlier run with the same settings finished are not computed again.

    Raises:
        InputError: no bundle, no slides, or an output folder that holds another run.
    """
    bundle = load_bundle(config.bundle)
    paths = find_slides(config.slides)
    known_mpp = _read_slide_manifest(config.slide_manifest, {slide_id(path, config.slides) for path in paths})
    _claim(config, bundle)
    pipeline = SlidePipeline(
        predictor=bundle.predictor(device=config.device),
        captioner=None
        if config.caption == "none"
        else bundle.captioner(device=config.device, batch_size=config.batch_size),
        taxonomy=bundle.taxonomy,
        target_mpp=bundle.index.target_mpp,
        tile_px=bundle.index.tile_px,
        batch_size=config.batch_size,
        workers=config.workers,
        notice=bundle.index.notice,
    )
    records = SlideRecords(config.out, bundle.taxonomy.class_names)
    with tqdm(paths, desc="Slides", unit="slide") as slides:
        for path in slides:
            name = slide_id(path, config.slides)
            slides.set_postfix_str(name)
            known = records.find(name)
            # A file that was replaced since is another slide.
            stamp = file_stamp(path)
            if known is None or known.status == "failed" or known.file != stamp:
                _remove_outputs(config.out, name)
                record = _run_slide(path, name, config=config, pipeline=pipeline, mpp=known_mpp.get(name))
                records.add(replace(record, file=stamp))
                if record.status != "ok":
                    tqdm.write(f"{name}: {record.status}: {record.reason}")
    records.write_csv()
    write_folder_page(records.all(), config.out, taxonomy=bundle.taxonomy, notice=bundle.index.notice)
    print(_table(records.all(), bundle.taxonomy))
    print(f"{config.out / 'index.html'}")
    return 0 if all(record.status == "ok" for record in records.all()) else SOME_NOT_CALLED


def _run_slide(
    path: Path, name: str, *, config: InferConfig, pipeline: SlidePipeline, mpp: float | None
) -> SlideRecord:
    """Do one slide; whatever is wrong with it becomes its record."""
    started = time.monotonic()
    slide: Slide | None = None
    try:
        slide = open_slide(path, slide_id=name, manifest_mpp=mpp, command_line_mpp=config.mpp)
        prepared = pipeline.prepare(slide, min_tissue=config.min_tissue)
        try:
            check_stain(prepared.overview, prepared.tissue, name=str(path))
        except InputError as error:
            return _uncalled(name, "skipped", error, slide=slide, started=started)
        with tqdm(total=len(prepared.plan.tiles), desc=f"  {name}", unit="patch", leave=False) as bar:
            prediction = pipeline.predict(prepared, progress=bar.update)
        share = len(prediction.unreadable) / len(prepared.plan.tiles)
        if share > config.max_unreadable:
            raise InputError(
                f"{path}: {len(prediction.unreadable)} of {len(prepared.plan.tiles)} tiles cannot be read "
                f"({share:.0%}, allowed {config.max_unreadable:.0%}); replace the file or raise --max-unreadable"
            )
        return _write_slide(prediction, config=config, pipeline=pipeline, started=started)
    except InputError as error:
        return _uncalled(name, "failed", error, slide=slide, started=started)
    except Exception as error:
        # One slide never stops the folder; where it went wrong is kept for whoever has to mend it.
        trace = config.out / "errors" / f"{name}.txt"
        write_text(trace, traceback.format_exc())
        unexpected = InputError(f"{path}: unexpected {type(error).__name__}: {error}; see {trace}")
        return _uncalled(name, "failed", unexpected, slide=slide, started=started)
    finally:
        if slide is not None:
            slide.close()


def _write_slide(
    prediction: SlidePrediction, *, config: InferConfig, pipeline: SlidePipeline, started: float
) -> SlideRecord:
    prepared, taxonomy = prediction.prepared, pipeline.taxonomy
    name = prepared.slide.slide_id
    call = aggregate(prediction.fused, np.array([tile.tissue for tile in prediction.tiles]))
    remarks = [f"{len(prediction.unreadable)} tiles cannot be read"] if prediction.unreadable else []
    if prepared.plan.upsampling > 1.01:
        remarks.append(
            f"the file is {prepared.plan.upsampling:.1f} times coarser than the {prepared.plan.target_mpp:g} µm/px "
            "the models were trained on"
        )
    record = SlideRecord(
        slide=name,
        status="ok",
        reason="; ".join(remarks),
        subtype=taxonomy.class_names[call.called],
        probabilities=dict(zip(taxonomy.class_names, map(float, call.weighted), strict=True)),
        mean_probabilities=dict(zip(taxonomy.class_names, map(float, call.mean), strict=True)),
        patches=len(prediction.tiles),
        captioned=sum(text is not None for text in prediction.texts),
        unreadable=len(prediction.unreadable),
        rejected=prediction.rejected(),
        mpp=prepared.slide.mpp.value,
        mpp_origin=prepared.slide.mpp.origin,
        seconds=time.monotonic() - started,
    )
    predictions, objects, page = _outputs(config.out, name)
    write_predictions(prediction, predictions, taxonomy=taxonomy)
    geojson = slide_geojson(
        taxonomy=taxonomy,
        outlines=prepared.tissue.outlines(),
        tiles=prediction.tiles,
        probabilities=prediction.fused,
        gates=prediction.gate,
        texts=prediction.texts,
    )
    write_text(objects, geojson)
    write_slide_page(prediction, record, page, taxonomy=taxonomy, notice=pipeline.notice)
    return record


def _outputs(out: Path, name: str) -> tuple[Path, Path, Path]:
    """Predictions, GeoJSON and page of the slide `name`."""
    return (
        out / "predictions" / f"{name}.parquet",
        out / "geojson" / f"{name}.geojson",
        out / "slides" / f"{name}.html",
    )


def _remove_outputs(out: Path, name: str) -> None:
    """Remove what an earlier file of the same name, or an attempt that was cut off, left behind."""
    for path in _outputs(out, name):
        path.unlink(missing_ok=True)


def _uncalled(name: str, status: Status, error: InputError, *, slide: Slide | None, started: float) -> SlideRecord:
    return SlideRecord(
        slide=name,
        status=status,
        reason=" ".join(str(error).split()),
        mpp=slide.mpp.value if slide else None,
        mpp_origin=slide.mpp.origin if slide else "",
        seconds=time.monotonic() - started,
    )


def _claim(config: InferConfig, bundle: Bundle) -> None:
    """Claim the output folder for what decides the results."""
    resolution = config.slide_manifest.read_text(encoding="utf-8") if config.slide_manifest else ""
    decisive = [str(config.slides.resolve()), bundle.key, config.caption, resolution]
    decisive += [repr(setting) for setting in (config.mpp, config.min_tissue, config.max_unreadable)]
    claim(config.out, key=digest(*decisive))
    write_text(config.out / "config.yaml", config_yaml(config))


def _read_slide_manifest(path: Path | None, slides: set[str]) -> dict[str, float]:
    """Resolution by slide id; every row must name one of `slides`, once."""
    if path is None:
        return {}
    if not path.is_file():
        raise InputError(f"{path}: no such slide manifest; give a CSV with the columns slide and mpp")
    try:
        rows = pd.read_csv(path, dtype={"slide": str})
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({error}); a slide manifest has slide and mpp") from error
    for column in ("slide", "mpp"):
        if column not in rows:
            raise InputError(f"{path}: column {column} is missing; a slide manifest has the columns slide and mpp")
    mpp = pd.to_numeric(rows["mpp"], errors="coerce")
    if mpp.isna().any():
        raise InputError(f"{path}, line {int(mpp.isna().to_numpy().argmax()) + 2}: mpp is not a number; give µm per px")
    for line, slide in enumerate(rows["slide"], 2):
        if slide not in slides:
            raise InputError(f"{path}, line {line}: no slide {slide} below the folder; give its path below the folder")
    repeated = rows["slide"].duplicated()
    if repeated.any():
        raise InputError(f"{path}, line {int(repeated.to_numpy().argmax()) + 2}: the slide occurs twice; keep one row")
    return dict(zip(rows["slide"], map(float, mpp), strict=True))


def _table(records: list[SlideRecord], taxonomy: Taxonomy) -> str:
    rows = pd.DataFrame(
        [
            {
                "slide": record.slide,
                "status": record.status,
                "subtype": record.subtype or "-",
                **{
                    f"p {name}": f"{record.probabilities[name]:.2f}" if record.probabilities else "-"
                    for name in taxonomy.class_names
                },
                "patches": record.patches,
                "seconds": f"{record.seconds:.1f}",
            }
            for record in records
        ]
    )
    counts = rows["status"].value_counts().to_dict()
    return rows.to_string(index=False) + "\n" + ", ".join(f"{count} {status}" for status, count in counts.items())
