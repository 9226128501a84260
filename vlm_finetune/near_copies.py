"""Patches that look nearly alike to the vision tower: the first of them is described, and stands for the others."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np

from vlm_finetune.copies import Copies
from vlm_finetune.patch_source import Patch
from vlm_finetune.unseen import Row

# Rows that are compared with one another: the choice depends on nothing but them, whatever was done before.
_STRETCH = 512


def leaders(embeddings: np.ndarray, *, threshold: float) -> list[int]:
    """For each of `embeddings` (N, D), the index of the first one that stands for it, often its own.

    An embedding stands for itself, and for every later one whose cosine with it is at least `threshold` and higher than
    with any other that does.
    """
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    chosen: list[int] = []
    found = []
    for index, unit in enumerate(units):
        cosines = units[chosen] @ unit
        best = int(cosines.argmax()) if chosen else -1
        if best >= 0 and cosines[best] >= threshold:
            found.append(chosen[best])
        else:
            chosen.append(index)
            found.append(index)
    return found


def stretches(rows: Sequence[Row]) -> list[list[Row]]:
    """`rows` in their order, in stretches of 512 that do not reach from one slide to the next."""
    together = [list(group) for _, group in groupby(rows, key=lambda row: row.place and row.place.slide_id)]
    return [group[start : start + _STRETCH] for group in together for start in range(0, len(group), _STRETCH)]


def whole_stretches(patches: Iterable[Patch], wanted: Sequence[Sequence[Row]]) -> Iterator[list[Patch]]:
    """`patches`, in whatever order, gathered to the stretches `wanted`, each in its order and whole."""
    place = {row.patch_id: (stretch, index) for stretch, rows in enumerate(wanted) for index, row in enumerate(rows)}
    found: dict[int, dict[int, Patch]] = {}
    for patch in patches:
        stretch, index = place[patch.patch_id]
        gathered = found.setdefault(stretch, {})
        gathered[index] = patch
        if len(gathered) == len(wanted[stretch]):
            del found[stretch]
            yield [gathered[one] for one in sorted(gathered)]


def fresh_of_stretch(
    stretch: Sequence[Patch],
    copies: Copies,
    *,
    embed: Callable[[Sequence[np.ndarray]], np.ndarray],
    threshold: float,
    done: set[tuple[str, str]],
) -> Iterator[Patch]:
    """Those patches of a whole `stretch` that are to be described; `copies` sees to the others.

    A patch that is `done` is described once more where the text of one that is not depends on it.
    """
    patches = [patch for patch in stretch if patch.image is not None]
    wanted = [(patch.patch_id, patch.key) not in done for patch in patches]
    if not any(wanted):
        return
    stands_for = leaders(embed([patch.image for patch in patches if patch.image is not None]), threshold=threshold)
    asked = {leader for leader, missing in zip(stands_for, wanted, strict=True) if missing}
    yield from copies.fresh(patches[index] for index in sorted(asked))
    for index, (leader, missing) in enumerate(zip(stands_for, wanted, strict=True)):
        if missing and index != leader:
            copies.follow(patches[index], patches[leader].key)
