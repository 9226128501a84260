"""What the checks for leakage cost on patches of 224 px, one thread, and which copies they find; one JSON line last."""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from data.image import read_image
from data.leakage import ClassNames
from data.near_duplicates import near_duplicates
from data.patch_hashes import pixel_hash
from data.perceptual_hash import BITS, hash_bits, perceptual_hash, turned
from data.synthetic.cohort import synth
from data.synthetic.config import SynthConfig
from data.taxonomy import load_taxonomy

PATIENTS, SIDE = 60, 224


def main() -> None:
    """Time every check on its own, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=7500)
    parser.add_argument("--drawn", type=int, default=360, help="different patches that are drawn; each is read in turn")
    parser.add_argument("--images", type=Path, help="folder of JPEG images, cut into patches for the search for copies")
    parser.add_argument("--many", type=int, default=100_000, help="random hashes for the search at scale")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        settings = SynthConfig(
            out=Path(folder), patients=12, patches_per_patient=arguments.drawn // 12, slides=0, workers=1
        )
        table = pd.read_csv(synth(settings) / "labels.csv")
        rounds = -(-arguments.patches // len(table))
        paths = ([Path(folder) / name for name in table["file_name"]] * rounds)[: arguments.patches]
        texts = (list(table["description"]) * rounds)[: arguments.patches]
        pixels = [read_image(path) for path in paths[: len(table)]]
        drawn = (pixels * rounds)[: arguments.patches]
        names = ClassNames(load_taxonomy())
        seconds = {
            "decode": timed(lambda: [read_image(path) for path in paths]),
            "pixel hash": timed(lambda: [pixel_hash(one) for one in drawn]),
            "perceptual hash": timed(lambda: [perceptual_hash(one) for one in drawn]),
            "class names in texts": timed(lambda: [names.mask(text) for text in texts]),
        }
    for count in (arguments.patches, arguments.many):
        hashes, splits, patients = random_rows(count)
        both: tuple[tuple[str, Sequence[object]], ...] = (("splits", splits), ("patients", patients))
        for what, sides in both:
            name = f"near duplicates between {what}, {count} patches"
            seconds[name] = timed(partial(near_duplicates, hashes, sides))
    for name, value in seconds.items():
        print(f"{name:<55}{value:>8.2f} s")
    if arguments.images is not None:
        pixels += [patch for path in sorted(arguments.images.glob("*.jpg")) for patch in cut(read_image(path))]
    copies = find_copies(pixels)
    print("\n".join(f"{name:<55}{value}" for name, value in copies.items()))
    print(json.dumps({"name": "leakage", "patches": arguments.patches, "seconds": seconds, "copies": copies}))


def find_copies(patches: list[np.ndarray]) -> dict[str, Any]:
    """How many of `patches` have a hash, how near two of them come, and how many of their copies are found."""
    hashes = [perceptual_hash(patch) for patch in patches]
    bits = hash_bits([hashed for hashed in hashes if hashed is not None])
    upright = bits.reshape(len(bits), -1).astype(np.float32) * 2 - 1
    nearest = BITS
    for position in turned(bits):
        # A product of ±1 counts agreements less differences.
        distances = (BITS - upright @ (position.reshape(len(bits), -1).astype(np.float32) * 2 - 1).T) / 2
        np.fill_diagonal(distances, BITS)
        nearest = min(nearest, int(distances.min()))
    found: dict[str, Any] = {"patches": len(patches), "with a hash": len(bits), "nearest two of them, in bits": nearest}
    for quality, side in ((75, SIDE), (50, SIDE), (30, SIDE), (20, SIDE), (10, SIDE), (75, 256), (75, 112)):
        for turn in (False, True):
            changed = [np.rot90(patch)[:, ::-1] if turn else patch for patch in patches]
            copies = [perceptual_hash(recompressed(patch, quality=quality, side=side)) for patch in changed]
            pairs = near_duplicates([*hashes, *copies], ["own"] * len(hashes) + ["copy"] * len(copies))
            right = sum(pair.second - pair.first == len(patches) for pair in pairs)
            name = f"JPEG {quality}, {side} px{', turned and mirrored' if turn else ''}"
            found[name] = {"found": right, "wrong": len(pairs) - right}
    return found


def recompressed(pixels: np.ndarray, *, quality: int, side: int) -> np.ndarray:
    """`pixels` resized to `side` and through JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def cut(pixels: np.ndarray) -> list[np.ndarray]:
    """Whole patches of an image, side by side."""
    tops, lefts = (range(0, length - SIDE + 1, SIDE) for length in pixels.shape[:2])
    return [pixels[top : top + SIDE, left : left + SIDE] for top in tops for left in lefts]


def random_rows(count: int) -> tuple[list[str], list[str], list[int]]:
    """Hashes without a copy among them, with splits and patients of usual sizes."""
    random = np.random.default_rng(0)
    hashes = [row.tobytes().hex() for row in random.integers(0, 256, (count, 32), dtype=np.uint8)]
    patients = np.arange(count) * PATIENTS // count
    splits = np.select([patients < 0.6 * PATIENTS, patients < 0.75 * PATIENTS], ["train", "val"], "test")
    return hashes, list(splits), list(patients)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return round(time.perf_counter() - start, 3)


if __name__ == "__main__":
    main()
