"""Which patches of a slide were described, and for which others they stand."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from fusion.aggregate import aggregate
from mmlnb.caption_budget import CaptionBudget, StrategyName
from mmlnb.caption_choice import Candidates, choose, nearest_of

# The curve on the page: so many steps from no caption to all that were written.
STEPS = 40


@dataclass(frozen=True, eq=False)
class ChosenCaptions:
    """The described ones among the N patches of a slide; patches are indices."""

    order: np.ndarray
    """Place of each patch in the order of choice (N,), from 0; -1 where it was not chosen, or got no caption."""
    nearest: np.ndarray
    """The described patch whose image features are most like those of each (N,), itself where it was described; -1
    where none was."""
    source: np.ndarray
    """The patch whose caption was fused with the image of each (N,): itself, a neighbour it borrows from, or -1."""

    @property
    def described(self) -> np.ndarray:
        """Indices of the patches with a caption of their own, as they were chosen."""
        found = np.flatnonzero(self.order >= 0)
        return found[np.argsort(self.order[found])]

    @property
    def borrowed(self) -> np.ndarray:
        """Which patches speak with another's words, bool (N,)."""
        return (self.source >= 0) & (self.source != np.arange(len(self.source)))

    def spoken(self, texts: Sequence[str | None]) -> tuple[str | None, ...]:
        """The text that was fused with each patch, from the own `texts` (N,)."""
        return tuple(texts[index] if index >= 0 else None for index in self.source)

    @property
    def weights(self) -> np.ndarray:
        """Share of the slide (N,) that each described patch stands for, together 1; 0 for the others.

        Patches are chosen because they are odd or uncertain, so counting them as they come would tell how often things
        are odd among the odd. Each stands for all patches that are nearest to it: the odd one for few, the usual one
        for many.
        """
        cells = np.bincount(self.nearest[self.nearest >= 0], minlength=len(self.nearest))
        return cells / max(1, cells.sum())

    def curve(self, *, fused: np.ndarray, image: np.ndarray, tissue: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The slide's probabilities as captions are added in the order in which they were chosen.

        Args:
            fused: probabilities (N, classes) with all captions.
            image: from the image alone (N, classes).
            tissue: share of tissue in each patch (N,).

        Returns:
            Numbers of captions (steps,), from none to all, and the probabilities of the slide (steps, classes).
        """
        count = len(self.described)
        steps = np.unique(np.linspace(0, count, min(count, STEPS) + 1).round().astype(int))
        # A borrowed caption counts from when its owner was described; what has none is as it is from the beginning.
        since = np.where(self.source >= 0, self.order[self.source], -1)
        calls = [aggregate(np.where(since[:, None] < step, fused, image), tissue).tissue_weighted for step in steps]
        return steps, np.stack(calls)

    def columns(self, patch_ids: Sequence[str]) -> dict[str, pa.Array]:
        """As columns of the predictions, null where they do not apply.

        `text_from`: the patch whose caption the text is; `nearest_described`: the described patch that stands for this
        one; `choice`: place in the order of choice, from 1.
        """
        return {
            "text_from": pa.array([patch_ids[index] if index >= 0 else None for index in self.source], pa.string()),
            "nearest_described": pa.array(
                [patch_ids[index] if index >= 0 else None for index in self.nearest], pa.string()
            ),
            "choice": pa.array([place + 1 if place >= 0 else None for place in self.order.tolist()], pa.int32()),
        }


def read_chosen(patches: pd.DataFrame) -> ChosenCaptions | None:
    """What `columns` wrote into the predictions of a slide; None where no choice was made."""
    if "text_from" not in patches:
        return None
    index = pd.Series(np.arange(len(patches)), index=patches["patch_id"])
    return ChosenCaptions(
        order=patches["choice"].fillna(0).to_numpy().astype(int) - 1,
        nearest=index.reindex(patches["nearest_described"]).fillna(-1).to_numpy().astype(int),
        source=index.reindex(patches["text_from"]).fillna(-1).to_numpy().astype(int),
    )


@dataclass(frozen=True)
class CaptionChoice:
    """How the patches of a slide that are described are chosen, and what becomes of the others."""

    budget: CaptionBudget
    strategy: StrategyName
    borrow_similarity: float | None = None
    """Least similarity with which a patch borrows the text of a described one; None for never."""

    def __str__(self) -> str:
        borrow = "none" if self.borrow_similarity is None else f"nearest from {self.borrow_similarity:g}"
        return f"{self.budget}, choose {self.strategy}, borrow {borrow}"

    def choose(self, candidates: Candidates) -> np.ndarray:
        """Indices (count,) of the patches to describe, the most worthwhile first."""
        return choose(self.strategy, candidates, self.budget.count(len(candidates)))

    def share_out(self, candidates: Candidates, described: Sequence[int]) -> ChosenCaptions:
        """Say for which patches each of the `described` ones (indices, as they were chosen) stands."""
        count = len(candidates)
        order = np.full(count, -1)
        if not len(described):
            return ChosenCaptions(order=order, nearest=order.copy(), source=order.copy())
        own = np.asarray(described)
        order[own] = np.arange(len(own))
        nearest = nearest_of(candidates.space, own)
        source = np.where(order >= 0, np.arange(count), -1)
        if self.borrow_similarity is not None:
            similar = similarity(candidates.space, candidates.space[nearest]) >= self.borrow_similarity
            source = np.where((source < 0) & similar, nearest, source)
        return ChosenCaptions(order=order, nearest=nearest, source=source)


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine (N,) between the rows of two matrices (N, d); 0 where one has no length."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.einsum("nd,nd->n", first, second) / np.maximum(lengths, np.finfo(np.float32).tiny)
