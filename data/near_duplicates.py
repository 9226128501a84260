"""Pairs of patches that are nearly the same picture, among a hundred thousand, without comparing each with each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data.perceptual_hash import AXIS, BITS, hash_bits, turned

LARGEST_DISTANCE = 32
"""Bits in which two hashes of one picture may differ. Different patches of H&E tissue differ in 128, spread by 8; the
nearest of 6 million comparisons in 72. JPEG of quality 20 changes up to 25."""
_BAND_BITS = 16
# The lowest frequencies first: they are the strongest, so that compression changes the bits of the first bands least.
_BY_FREQUENCY = np.argsort(np.add.outer(np.arange(AXIS), np.arange(AXIS)).ravel(), kind="stable")


@dataclass(frozen=True)
class NearPair:
    """Two rows whose pictures are nearly the same, possibly turned or mirrored."""

    first: int
    second: int
    distance: int
    """Bits of 256 in which their hashes differ."""


@dataclass(frozen=True)
class _Entries:
    """M hashes to look up: of every picture as it is, and of some in the other positions as well."""

    words: np.ndarray
    """(M, 4) uint64, the bits."""
    bands: np.ndarray
    """(M, 16) uint16, the same bits by frequency."""
    owner: np.ndarray
    """(M,) the picture."""
    upright: np.ndarray
    """(M,) whether it is in the position in which it was given."""


def near_duplicates(hashes: Sequence[str | None], sides: Sequence[object]) -> list[NearPair]:
    """Pairs of rows on different `sides` whose `hashes` differ in at most `LARGEST_DISTANCE` bits, sorted.

    A pair is compared where it agrees in 16 bits of one of 16 bands: always up to 15 bits apart, and beyond that where
    the changes are not in every band. Of rows with the same hash on the same side the first stands for all.

    Args:
        hashes: as `perceptual_hash` gives them; rows with None are not compared.
        sides: what must not share a picture, such as the split or the patient of each row.
    """
    rows, codes, bits = _pictures(hashes, sides)
    if len(rows) < 2 or len(np.unique(codes)) < 2:
        return []
    entries = _entries(bits, codes)
    pairs = np.concatenate([_near_in_band(entries, codes, band) for band in range(BITS // _BAND_BITS)])
    # The closest of the positions in which a pair was found comes first, and the others go.
    pairs = pairs[np.lexsort((pairs[:, 2], pairs[:, 1], pairs[:, 0]))]
    _, first = np.unique(pairs[:, :2], axis=0, return_index=True)
    return [NearPair(int(rows[a]), int(rows[b]), int(distance)) for a, b, distance in pairs[first]]


def _pictures(hashes: Sequence[str | None], sides: Sequence[object]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, side (as a number) and bits (N, 16, 16) of every different picture of a side."""
    table = pd.DataFrame({"hash": list(hashes), "side": pd.factorize(pd.Series(list(sides), dtype=object))[0]})
    table = table.dropna(subset=["hash"]).drop_duplicates()
    return table.index.to_numpy(), table["side"].to_numpy(), hash_bits(list(table["hash"]))


def _entries(bits: np.ndarray, codes: np.ndarray) -> _Entries:
    # Of two pictures on different sides one at most lies on the largest, so the others are turned and it is not.
    sides, counts = np.unique(codes, return_counts=True)
    movable = np.flatnonzero(codes != sides[counts.argmax()])
    positions = [bits, *(position for position in turned(bits[movable])[1:])]
    flat = [position.reshape(-1, BITS) for position in positions]
    return _Entries(
        words=np.concatenate([_packed(some).view(np.uint64) for some in flat]),
        bands=np.concatenate([_packed(some[:, _BY_FREQUENCY]).view(np.uint16) for some in flat]),
        owner=np.concatenate([np.arange(len(bits)), *([movable] * (len(positions) - 1))]),
        upright=np.arange(sum(map(len, flat))) < len(bits),
    )


def _packed(bits: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.packbits(bits, axis=1))


def _near_in_band(entries: _Entries, codes: np.ndarray, band: int) -> np.ndarray:
    """Rows of (picture, picture, distance) for the near pairs that agree in `band`."""
    keys = entries.bands[:, band]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    found = [np.empty((0, 3), dtype=np.int64)]
    start = np.arange(len(keys))
    for offset in range(1, len(keys)):
        # Equal keys lie together, so whoever has no partner at this offset has none further on.
        start = start[start + offset < len(keys)]
        start = start[keys[start] == keys[start + offset]]
        if not len(start):
            break
        left, right = order[start], order[start + offset]
        apart = codes[entries.owner[left]] != codes[entries.owner[right]]
        apart &= entries.upright[left] | entries.upright[right]
        left, right = left[apart], right[apart]
        distance = np.bitwise_count(entries.words[left] ^ entries.words[right]).sum(axis=1, dtype=np.int64)
        near = distance <= LARGEST_DISTANCE
        owners = np.sort(np.stack([entries.owner[left[near]], entries.owner[right[near]]], axis=1), axis=1)
        found.append(np.column_stack([owners, distance[near]]))
    return np.concatenate(found)
