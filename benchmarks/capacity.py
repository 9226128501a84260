"""What a cohort of slides costs on one GPU, on eight and on a cluster: arithmetic over rates; one JSON line last.

With --bundle the rates of image tower, writer and fusion are measured on this machine first, and the cohort is also
reckoned for it. What is not measured is assumed, and the table says so.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MEASURED, ASSUMED = "measured", "assumed"


@dataclass(frozen=True)
class Rates:
    """Patches per second of each stage."""

    reading: float
    """Of one CPU core that reads tiles."""
    tower: float
    """Image tower on one device."""
    captions: float
    """Vision-language model on one device."""
    fusion: float
    """Text tower and PRMF on one device."""


@dataclass(frozen=True)
class Machines:
    """What the cohort runs on."""

    name: str
    devices: int
    """GPUs; each has a worker of its own, which takes one slide at a time."""
    readers: int
    """CPU cores that read for each device."""
    shared_cores: bool = False
    """Whether models and readers share the same cores, so that the times of all stages add up."""


def slide_seconds(rates: Rates, machines: Machines, *, patches: int, share: float) -> tuple[float, str]:
    """Seconds that a device takes for a slide of `patches`, of which `share` is described; and what holds it up.

    The readers work ahead of the models, so the slower of the two decides; the models of a device take turns.
    """
    described = patches * share
    stages = {
        "image tower": patches / rates.tower,
        "writing": described / rates.captions,
        "fusion": described / rates.fusion,
    }
    reading = patches / (rates.reading * machines.readers)
    models = sum(stages.values())
    slowest = max(stages, key=lambda name: stages[name])
    if machines.shared_cores:
        return models + reading, slowest if stages[slowest] > reading else "reading"
    return max(models, reading), slowest if models > reading else "reading"


def cohort_seconds(per_slide: float, *, slides: int, devices: int) -> float:
    """Longest that the cohort takes where the next slide goes to the next free device: all are busy until the last."""
    return slides * per_slide / devices + per_slide * (devices - 1) / devices


def main() -> None:
    """Print the rates, the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--slides", type=int, default=10_000)
    parser.add_argument("--patches", type=int, default=8_000, help="usable patches of a slide")
    parser.add_argument("--slide-gb", type=float, default=1.0, help="size of a slide's file")
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0, 0.1], help="shares of patches described")
    parser.add_argument("--reading", type=float, default=851.0, help="tiles/s of a core (make bench-tiles: 1,702 on 2)")
    parser.add_argument("--tower", type=float, default=1000.0, help="patches/s of the image tower on a GPU")
    parser.add_argument("--captions", type=float, default=2.0, help="captions/s of the VLM on a GPU")
    parser.add_argument("--fusion", type=float, default=1000.0, help="patches/s of text tower and PRMF on a GPU")
    parser.add_argument("--readers", type=int, default=4, help="CPU cores that read for each GPU")
    parser.add_argument("--cluster", type=int, default=64, help="GPUs of the cluster")
    parser.add_argument("--price", type=float, default=2.0, help="of one GPU for an hour")
    parser.add_argument("--bundle", type=Path, help="measure on this machine with the models of a bundle")
    given = parser.parse_args()
    rates = Rates(given.reading, given.tower, given.captions, given.fusion)
    rows: list[dict[str, object]] = []
    print(f"{given.slides:,} slides of {given.patches:,} patches")
    origin = {name: MEASURED if name == "reading" else ASSUMED for name in vars(rates)}
    print(
        "GPU rates, patches/s: "
        + ", ".join(f"{name} {value:g} ({origin[name]})" for name, value in vars(rates).items())
    )
    kinds = [
        (Machines(name, devices, given.readers), rates)
        for name, devices in (("1 GPU", 1), ("8 GPUs", 8), (f"{given.cluster} GPUs", given.cluster))
    ]
    if given.bundle is not None:
        here = measured_rates(given.bundle, reading=given.reading)
        print("here, patches/s: " + ", ".join(f"{name} {value:g} ({MEASURED})" for name, value in vars(here).items()))
        kinds.append((Machines("this machine", 1, 2, shared_cores=True), here))
    print(
        f"{'machines':<14}{'described':>10}{'s/slide':>10}{'hours':>10}{'GPU hours':>11}{'price':>9}"
        f"{'MB/s':>8}  slowest stage"
    )
    for share in given.shares:
        for machines, their in kinds:
            seconds, slowest = slide_seconds(their, machines, patches=given.patches, share=share)
            hours = cohort_seconds(seconds, slides=given.slides, devices=machines.devices) / 3600
            gpu_hours = None if machines.shared_cores else given.slides * seconds / 3600
            price = None if gpu_hours is None else gpu_hours * given.price
            # What the file system has to deliver, where every byte of a slide is read once.
            traffic = 1000 * given.slide_gb * machines.devices / seconds
            cells = ["–" if value is None else f"{value:,.0f}" for value in (gpu_hours, price)]
            print(
                f"{machines.name:<14}{share:>10.0%}{seconds:>10,.1f}{hours:>10,.1f}{cells[0]:>11}{cells[1]:>9}"
                f"{traffic:>8.1f}  {slowest}"
            )
            rows.append(
                {
                    "machines": machines.name,
                    "described": share,
                    "seconds_per_slide": round(seconds, 2),
                    "hours": round(hours, 2),
                    "gpu_hours": None if gpu_hours is None else round(gpu_hours, 1),
                    "slowest_stage": slowest,
                }
            )
    print(json.dumps({"name": "capacity", "slides": given.slides, "patches": given.patches, "rows": rows}))


def measured_rates(bundle: Path, *, reading: float) -> Rates:
    """Rates of the models of `bundle` on this machine, on patches of noise."""
    from mmlnb.bundles import load_bundle

    found = load_bundle(bundle)
    predictor, captioner = found.predictor(device="auto"), found.captioner(device="auto", batch_size=64)
    side = found.index.tile_px
    random = np.random.default_rng(0)
    patches = [random.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(128)]
    texts = [caption.text for caption in captioner.describe(patches)]
    features = predictor.encode_images(patches)
    return Rates(
        reading=reading,
        tower=_rate(lambda: predictor.encode_images(patches), len(patches)),
        captions=_rate(lambda: captioner.describe(patches), len(patches)),
        fusion=_rate(lambda: predictor.predict_features(features, texts), len(patches)),
    )


def _rate(run: Callable[[], object], count: int) -> float:
    """Patches per second, the median of three rounds."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return round(count / statistics.median(seconds), 1)


if __name__ == "__main__":
    main()
