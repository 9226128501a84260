"""What describing a tenth of a slide's patches saves and costs, by how they are chosen; one JSON line last."""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from caption_choices import KnownSlide, borrow_name, compare, derive, patch_accuracy, read_known
from costly_writer import CostlyWriter
from scipy.stats import binomtest

from data.prepared_slide import SlideRequest, prepare_slide
from data.synthetic.cohort import synth
from data.synthetic.config import SynthConfig
from fusion.aggregate import aggregate
from fusion.predictor import Predictor
from mmlnb.bundles import Bundle, load_bundle
from mmlnb.chosen_captions import CaptionChoice
from mmlnb.config import InferConfig
from mmlnb.inference import caption_choice, infer
from mmlnb.memory import PeakMemory

COST_PATCHES = 128
ROUNDS = 3


def main() -> None:
    """Measure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="folder of `mmlnb demo`, whose bundle is used")
    parser.add_argument("--slides", type=int, default=12, help="synthetic slides for accuracy and findings")
    parser.add_argument("--slide-px", type=int, default=8192, help="their side")
    parser.add_argument("--seed", type=int, default=77, help="of the cohort")
    parser.add_argument("--fraction", type=float, default=0.1, help="share of the patches that the JSON line is about")
    parser.add_argument("--borrow", default="none", choices=("none", "nearest"))
    parser.add_argument("--quick", action="store_true", help="three slides of 4096 px: a look, not a result")
    parser.add_argument("--out", type=Path, help="folder that keeps the slides and runs, to go on where it was cut off")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.slides, arguments.slide_px = 3, 4096
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(arguments.out or Path(folder), arguments)))


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Draw the cohort, describe all of it once, and compare every choice; then time all against some."""
    bundle = load_bundle(arguments.demo / "bundle")
    cohort = synth(
        SynthConfig(
            out=folder / "cohort", patients=0, slides=arguments.slides, slide_px=arguments.slide_px, seed=arguments.seed
        )
    )
    slides = cohort / "slides"

    def run(out: str, **settings: Any) -> InferConfig:
        config = InferConfig(
            **{"slides": slides, "out": folder / out, "bundle": bundle.folder, "borrow": arguments.borrow, **settings}
        )
        assert infer(config) == 0
        return config

    run("all", hdf5=True)
    predictor = bundle.predictor(device="auto")
    known = list(read_known(folder / "all", truth=cohort / "slides.csv", taxonomy=bundle.taxonomy, predictor=predictor))
    table = compare(known, predictor, bundle.taxonomy)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4f}"), flush=True)

    some = f"fraction={arguments.fraction}"
    config = run("one", slides=slides / known[0].name, caption=some)
    choice = caption_choice(config)
    assert choice is not None
    here = (table["fraction"] == arguments.fraction) & (table["choose"] == choice.strategy)
    ours = table[here & (table["borrow"] == borrow_name(choice))].iloc[0]
    calls = [aggregate(one.fused, one.candidates.tissue).called == one.label for one in known]
    right = {"all": sum(calls), "selected": round(float(ours["slide_accuracy"]) * len(known))}
    timed = time_runs(run, bundle, slides / known[0].name, some)
    return {
        "name": "infer",
        "fraction": arguments.fraction,
        "speedup": timed["costly"]["speedup"],
        **{f"slide_accuracy_{name}": round(count / len(known), 4) for name, count in right.items()},
        "patch_balanced_accuracy_all": round(patch_accuracy(known, [one.fused for one in known]), 4),
        "patch_balanced_accuracy_selected": round(float(ours["patch_balanced_accuracy"]), 4),
        "findings_profile_error": round(float(ours["findings_profile_error"]), 4),
        "peak_rss_gb": timed.pop("peak_rss_gb"),
        **{f"slide_accuracy_interval_{name}": interval(count, len(known)) for name, count in right.items()},
        "patch_balanced_accuracy_image_only": round(patch_accuracy(known, [one.without for one in known]), 4),
        "findings_profile_error_unweighted": round(float(ours["unweighted_error"]), 4),
        "choice": str(choice),
        "slides": len(known),
        "patches": sum(len(one.texts) for one in known),
        **check_derivation(known[0], folder / "one", choice, predictor),
        "speedup_embedded_default": timed["embedded"]["speedup"],
        **timed,
        "table": json.loads(table.round(4).to_json(orient="records")),
    }


def interval(right: int, count: int) -> list[float]:
    """95 % interval of a share (Wilson)."""
    found = binomtest(right, count).proportion_ci(method="wilson")
    return [round(float(found.low), 4), round(float(found.high), 4)]


def check_derivation(one: KnownSlide, out: Path, choice: CaptionChoice, predictor: Predictor) -> dict[str, Any]:
    """Whether a real run describes the same patches in the same words, and how far its probabilities are off."""
    rows = pd.read_parquet(out / "predictions" / f"{one.name}.parquet")
    chosen = choice.share_out(one.candidates, choice.choose(one.candidates).tolist())
    fused, texts = derive(one, chosen, predictor)
    spoken = [text if isinstance(text, str) else None for text in rows["text"]]
    same = spoken == list(chosen.spoken(texts)) and bool((rows["captioned"] == (chosen.order >= 0)).all())
    off = np.abs(rows[[name for name in rows if name.startswith("p_")]].to_numpy() - fused).max()
    return {"derived_equals_run": same, "largest_difference_to_run": round(float(off), 6)}


def time_runs(run: Callable[..., InferConfig], bundle: Bundle, slide: Path, some: str) -> dict[str, Any]:
    """Seconds of whole runs on one slide with all captions and with some, by a costly writer and the embedded one."""
    timed: dict[str, Any] = {}
    writer = CostlyWriter(bundle.captioner(device="cpu", batch_size=InferConfig.batch_size))
    for kind in ("embedded", "costly"):
        seconds = []
        for caption in (some, "all"):
            with in_place_of_the_captioner(writer if kind == "costly" else None), PeakMemory() as memory:
                started = time.perf_counter()
                run(f"timed-{started}/{kind}-{caption}", slides=slide, caption=caption)
                seconds.append(time.perf_counter() - started)
            if kind == "costly" and caption == some:
                timed["peak_rss_gb"] = round(memory.gigabytes, 3)
        described, every = seconds
        timed[kind] = {
            "seconds_all": round(every, 1),
            "seconds_selected": round(described, 1),
            "speedup": round(every / described, 2),
        }
        print(kind, timed[kind], flush=True)
    tower = tower_seconds(bundle, slide)
    return timed | {
        "writer_parameters_millions": round(writer.parameters / 1e6, 1),
        "writer_tokens_per_patch": round(writer.tokens / writer.patches, 1),
        "writer_seconds_per_patch": round(writer.seconds / writer.patches, 4),
        "embedded_writer_seconds_per_patch": round(writer.embedded_seconds / writer.patches, 4),
        "image_tower_seconds_per_patch": round(tower, 5),
        "writer_over_image_tower": round(writer.seconds / writer.patches / tower, 1),
    }


@contextmanager
def in_place_of_the_captioner(writer: CostlyWriter | None) -> Iterator[None]:
    """Let runs be described by `writer`; None leaves the bundle's own."""
    if writer is None:
        yield
        return
    with patch.object(Bundle, "captioner", lambda *_, **__: writer):
        yield


def tower_seconds(bundle: Bundle, slide: Path) -> float:
    """What the image tower takes per patch, the best of a few rounds, patches at hand."""
    request = SlideRequest(target_mpp=bundle.index.target_mpp, tile_px=bundle.index.tile_px)
    prepared = prepare_slide(slide, slide.name, request)
    tiles = prepared.plan.tiles[:COST_PATCHES]
    with prepared.slide as opened:
        images = [
            opened.read_tile(x=tile.x, y=tile.y, size_px=tile.size_px, tile_px=bundle.index.tile_px) for tile in tiles
        ]
    predictor = bundle.predictor(device="cpu")
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        predictor.encode_images(images)
        seconds.append(time.perf_counter() - started)
    return min(seconds) / len(images)


if __name__ == "__main__":
    main()
