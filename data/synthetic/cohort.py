"""A synthetic cohort on disk: patches with findings and descriptions, and whole slides of other patients."""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from data.atomic import atomic, digest
from data.claim import claim
from data.command import run_command
from data.errors import InputError
from data.synthetic.amounts import draw_findings
from data.synthetic.config import HARDER, SynthConfig
from data.synthetic.describe import describe
from data.synthetic.labels import add_label_noise, site_name, split_patients
from data.synthetic.slide import TRUTH_STEP, draw_slide, write_slide
from data.synthetic.style import SiteStain, draw_site, draw_style
from data.synthetic.tissue import check_resolution, render_patch
from data.taxonomy import Subtype, Taxonomy, load_taxonomy

_PATIENT, _SLIDE, _SITE = 1, 2, 3
"""First word of the seed of a patient's, a slide's and a site's draws, so that they differ."""

Row = dict[str, Any]


def synth(config: SynthConfig) -> Path:
    """Draw a cohort.

    Writes `patches/<patient>/<number>.jpg` with `labels.csv` (file_name, patient_id, label, description, mpp, findings
    as JSON; where the settings say so, also site, slide_id, split and true_label), `slides/<patient>.tiff` with
    `slides.csv` (slide: the file's name in `slides`, patient_id, label, mpp; site where there are sites), and
    `truth/<patient>.png`, the mask of each slide at 1/16: 0 glass, 1 tissue, 2 pen, 3 fold, 4 out of focus, 5 edge of
    coverslip or slide. The same configuration gives the same bytes with any number of workers; a cohort that was cut
    off is drawn again.

    Returns:
        The output folder.

    Raises:
        InputError: a setting out of range, a taxonomy that cannot be drawn, or an output folder with other content.
    """
    _check(config)
    taxonomy = load_taxonomy(config.taxonomy)
    settings = {name: value for name, value in asdict(config).items() if name not in ("out", "workers", "taxonomy")}
    # A cohort that is none the harder has the key that it had before there was anything to make it so.
    settings = {name: settings[name] for name in settings if name not in HARDER or name in config.harder}
    claimed = claim(config.out, key=digest(json.dumps(settings), taxonomy.key))
    if claimed and (config.out / "slides.csv").is_file():
        print(f"{config.out}: already drawn with these settings")
        return config.out
    with _mapper(config.workers) as run:
        patients = run(partial(_write_patient, config, taxonomy), range(config.patients))
        rows = list(tqdm(patients, desc="patches", total=config.patients, unit="patient"))
        drawn = run(partial(_write_slide, config, taxonomy), range(config.slides))
        slide_rows = list(tqdm(drawn, desc="slides", total=config.slides, unit="slide"))
    sites = ["site"] if config.sites else []
    columns = ["file_name", "patient_id", "label", "description", "mpp", "findings", *sites]
    columns += ["slide_id"] if config.patch_slides else []
    labels = pd.DataFrame([row for patient in rows for row in patient], columns=columns)
    if config.label_noise or config.held_out_sites:
        labels["split"] = split_patients(labels, config)
    if config.label_noise:
        labels = add_label_noise(labels, config, classes=taxonomy.class_names)
    _write_table(labels, config.out / "labels.csv")
    # The last: it says that all is there.
    slides = pd.DataFrame(slide_rows, columns=["slide", "patient_id", "label", "mpp", *sites])
    _write_table(slides, config.out / "slides.csv")
    return config.out


def _check(config: SynthConfig) -> None:
    lowest = {"patients": 0, "patches_per_patient": 1, "slides": 0, "slide_px": 1024, "patch_px": 64, "workers": 1}
    for name, least in lowest.items():
        if getattr(config, name) < least:
            raise InputError(f"{name} {getattr(config, name)}: give at least {least}")
    if config.slide_px % TRUTH_STEP:
        raise InputError(f"slide_px {config.slide_px}: give a multiple of {TRUTH_STEP}")
    check_resolution(config.mpp)


@contextmanager
def _mapper(workers: int) -> Iterator[Any]:
    """A `map` over `workers` processes, or over none for one worker; results come in order."""
    if workers == 1:
        yield map
        return
    # Spawned rather than forked: threads of this process would be lost in a fork, and macOS spawns anyway.
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield pool.map


def _subtype(taxonomy: Taxonomy, index: int) -> Subtype:
    return taxonomy.classes[taxonomy.class_names[index % len(taxonomy.classes)]]


def _site(config: SynthConfig, taxonomy: Taxonomy, index: int) -> tuple[dict[str, str], SiteStain | None]:
    """Column and stain of the site of a patient, or nothing; every site has all classes."""
    if not config.sites:
        return {}, None
    number = index // len(taxonomy.classes) % config.sites
    stain = draw_site(np.random.default_rng([config.seed, _SITE, number]), shift=config.stain_shift)
    return {"site": site_name(number)}, stain


def _write_patient(config: SynthConfig, taxonomy: Taxonomy, index: int) -> list[Row]:
    subtype, patient = _subtype(taxonomy, index), f"P{index + 1:03d}"
    site, stain = _site(config, taxonomy, index)
    style = draw_style(np.random.default_rng([config.seed, _PATIENT, index]), stain)
    rows = []
    for number in range(config.patches_per_patient):
        rng = np.random.default_rng([config.seed, _PATIENT, index, number])
        findings = draw_findings(subtype, taxonomy, rng, rare=config.rare_findings)
        image = render_patch(findings, taxonomy=taxonomy, style=style, size_px=config.patch_px, mpp=config.mpp, rng=rng)
        file_name = f"patches/{patient}/{number + 1:03d}.jpg"
        _write_image(image, config.out / file_name, quality=style.jpeg_quality)
        rows.append(
            {
                "file_name": file_name,
                "patient_id": patient,
                "label": subtype.name,
                "description": describe(findings, taxonomy, rng),
                "mpp": config.mpp,
                "findings": json.dumps(findings, ensure_ascii=False),
                "slide_id": f"{patient}-{number % max(1, config.patch_slides) + 1}",
                **site,
            }
        )
    return rows


def _write_slide(config: SynthConfig, taxonomy: Taxonomy, index: int) -> Row:
    subtype, patient = _subtype(taxonomy, index), f"S{index + 1:03d}"
    rng = np.random.default_rng([config.seed, _SLIDE, index])
    site, stain = _site(config, taxonomy, index)
    style = draw_style(rng, stain)
    drawn = draw_slide(
        subtype,
        taxonomy,
        style,
        size_px=config.slide_px,
        mpp=config.mpp,
        rng=rng,
        rare_findings=config.rare_findings,
    )
    path = config.out / "slides" / f"{patient}.tiff"
    write_slide(drawn.image, path, mpp=config.mpp, jpeg_quality=style.jpeg_quality)
    _write_image(drawn.truth, config.out / "truth" / f"{patient}.png")
    return {"slide": path.name, "patient_id": patient, "label": subtype.name, "mpp": config.mpp, **site}


def _write_image(image: NDArray[np.uint8], path: Path, *, quality: int | None = None) -> None:
    """Write RGB or grey pixels as JPEG of `quality`, or as PNG."""
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if quality is not None else []
    written, content = cv2.imencode(path.suffix, stored, options)
    if not written:
        raise InputError(f"{path}: could not be encoded; use .jpg or .png")
    with atomic(path) as temporary:
        temporary.write_bytes(content.tobytes())


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False)


if __name__ == "__main__":
    raise SystemExit(run_command(synth, SynthConfig, name="synth"))
