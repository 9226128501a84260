"""The reference of stain normalisation is no test data: neither a slide that is called nor a patch that was tested."""

import filecmp
import logging
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from data.atomic import atomic
from data.errors import InputError
from data.image import read_image
from data.manifest import HASHES, read_manifest
from data.near_duplicates import near_duplicates
from data.patch_hashes import pixel_hash, with_hashes
from data.perceptual_hash import perceptual_hash

HELD_OUT = "held_out.parquet"
_REMEDY = "give an H&E patch of a training patient"

logger = logging.getLogger(__name__)


def write_held_out(path: Path, manifest: Path, *, split: str) -> None:
    """Write the hashes, and nothing else, of the patches of `split` that the bundle's figures were measured on."""
    frame = read_manifest(manifest)
    rows = with_hashes(frame[frame["split"] == split], manifest)
    hashes = rows.loc[rows["pixel_hash"].notna(), list(HASHES)].sort_values(list(HASHES), ignore_index=True)
    with atomic(path) as temporary:
        hashes.to_parquet(temporary, index=False)


def check_stain_reference(reference: Path, *, slides: Iterable[Path], held_out: Path) -> None:
    """Refuse a `reference` that is one of the `slides` to be called or, or nearly, a patch that was held out.

    Args:
        reference: image file.
        slides: files that are called with it.
        held_out: what `write_held_out` wrote; in an older bundle it is missing, which is warned of.

    Raises:
        InputError: it is test data, or no image.
    """
    pixels = read_image(reference)
    for slide in slides:
        if slide.is_file() and filecmp.cmp(slide, reference, shallow=False):
            raise InputError(f"--stain-reference {reference}: is {slide}, one of the slides to be called; {_REMEDY}")
    if not held_out.is_file():
        logger.warning(
            "%s: is missing from the bundle, so it is not known whether --stain-reference %s was tested on; make the "
            "bundle again",
            *(held_out, reference),
        )
        return
    tested = pd.read_parquet(held_out)
    likeness = [perceptual_hash(pixels), *tested["perceptual_hash"].where(tested["perceptual_hash"].notna(), None)]
    same = pixel_hash(pixels) in set(tested["pixel_hash"])
    if same or near_duplicates(likeness, ["reference", *["tested"] * len(tested)]):
        raise InputError(
            f"--stain-reference {reference}: is {'' if same else 'nearly '}a patch that the bundle's figures were "
            f"measured on; {_REMEDY}"
        )
