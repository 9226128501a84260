"""What a patch is known by when it turns up twice: a hash of its pixels, and one of what it looks like."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from data.errors import InputError
from data.image import read_image
from data.manifest import HASHES, image_path
from data.perceptual_hash import perceptual_hash


def pixel_hash(pixels: np.ndarray) -> str:
    """Hash of the size and the pixels of an image, as 32 hex digits."""
    hasher = hashlib.sha256(repr(pixels.shape).encode())
    hasher.update(np.ascontiguousarray(pixels).data)
    return hasher.hexdigest()[:32]


def with_hashes(frame: pd.DataFrame, manifest: Path) -> pd.DataFrame:
    """`frame`, rows of `manifest`, with both hashes in every row whose image can be read.

    `mmlnb prepare` writes them; the images of older manifests are decoded here, with a progress bar.
    """
    missing = frame["pixel_hash"].isna() & frame["image"].notna()
    if not missing.any():
        return frame
    paths = [image_path(manifest, image) for image in frame.loc[missing, "image"]]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(tqdm(pool.map(_hash_file, paths), total=len(paths), desc="Comparing images", unit="image"))
    frame = frame.copy()
    for number, column in enumerate(HASHES):
        frame[column] = frame[column].astype(object)
        frame.loc[missing, column] = pd.Series([one[number] for one in found], index=frame.index[missing], dtype=object)
    return frame


def _hash_file(path: Path) -> tuple[str | None, str | None]:
    try:
        pixels = read_image(path)
    except InputError:
        # Whoever needs the image says so; here it is one that cannot be compared.
        return None, None
    return pixel_hash(pixels), perceptual_hash(pixels)
