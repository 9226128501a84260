"""Tissue, pen marks, folds, edges and blur found on synthetic slides, against their truth."""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from data.synthetic.score import SMALLEST_SHARE, SlideScore, score_slide
from data.synthetic.slide import draw_slide, write_slide
from data.synthetic.style import draw_style
from data.taxonomy import Taxonomy, load_taxonomy

SIZES_PX = (2048, 2560, 3072)
MPP = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=12, help="slides to draw")
    parser.add_argument("--seed", type=int, default=99, help="seed of everything drawn")
    arguments = parser.parse_args()
    taxonomy = load_taxonomy()
    print(f"{'slide':>5} {'px':>5} {'IoU':>6}  {'good lost':>10}  rejected of those spoilt, by reason")
    scores = []
    for index in range(arguments.slides):
        score = _score(taxonomy, seed=arguments.seed, index=index)
        reasons = "; ".join(f"{name}: {_list(counts)}" for name, counts in score.rejected.items())
        lost = f"{score.good_tiles_lost}/{score.good_tiles}"
        print(f"{index:>5} {_size(index):>5} {score.tissue_iou:6.3f}  {lost:>10}  {reasons}", flush=True)
        scores.append(score)
    print(json.dumps(_summary(scores)))


def _size(index: int) -> int:
    return SIZES_PX[index % len(SIZES_PX)]


def _score(taxonomy: Taxonomy, *, seed: int, index: int) -> SlideScore:
    rng = np.random.default_rng([seed, index])
    style = draw_style(rng)
    subtype = taxonomy.classes[taxonomy.class_names[index % len(taxonomy.class_names)]]
    drawn = draw_slide(subtype, taxonomy, style, size_px=_size(index), mpp=MPP, rng=rng)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tiff"
        write_slide(drawn.image, path, mpp=MPP, jpeg_quality=style.jpeg_quality)
        return score_slide(drawn, path)


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "none"


def _summary(scores: list[SlideScore]) -> dict[str, object]:
    totals = {name: sum((score.rejected[name] for score in scores), Counter[str]()) for name in SMALLEST_SHARE}
    good = sum(score.good_tiles for score in scores)
    ious = [score.tissue_iou for score in scores]
    return {
        "name": "tissue",
        "slides": len(scores),
        "tissue_iou_min": round(min(ious), 4),
        "tissue_iou_mean": round(sum(ious) / len(ious), 4),
        **{f"{name}_tiles_rejected": _rejected(counts) for name, counts in totals.items()},
        **{f"{name}_reasons": dict(counts) for name, counts in totals.items()},
        "good_tiles_lost": round(sum(score.good_tiles_lost for score in scores) / max(1, good), 4),
        "seconds_per_slide": round(sum(score.seconds for score in scores) / len(scores), 3),
    }


def _rejected(counts: Counter[str]) -> float | None:
    """Return the share that was rejected for any reason; None where nothing was to be rejected."""
    return round(1 - counts["kept"] / counts.total(), 4) if counts else None


if __name__ == "__main__":
    main()
