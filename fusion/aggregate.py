"""From the patches of a slide to its subtype."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SlideCall:
    """Probability per class of one slide, each array of shape (classes,)."""

    tissue_weighted: np.ndarray
    """Soft vote weighted by each patch's share of tissue: the call."""
    mean: np.ndarray
    """Plain mean over the patches."""
    hard_vote: np.ndarray
    """Share of the patches that call each class; of equal ones the first has it, in a patch and in the vote."""

    @property
    def called(self) -> int:
        """Index of the called class."""
        return int(self.tissue_weighted.argmax())


def aggregate(probabilities: np.ndarray, tissue: np.ndarray) -> SlideCall:
    """Average patch `probabilities` (patches, classes) plainly, weighted by `tissue` (patches,), 0–1, and as votes.

    Raises:
        ValueError: no patches, or no tissue in any.
    """
    if not len(probabilities) or not tissue.sum() > 0:
        raise ValueError("a slide is called from at least one patch with tissue")
    votes = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])
    return SlideCall(
        tissue_weighted=np.average(probabilities.astype(np.float64), axis=0, weights=tissue),
        mean=probabilities.mean(axis=0, dtype=np.float64),
        hard_vote=votes / len(probabilities),
    )
