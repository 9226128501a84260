"""From the patches of a slide to its subtype."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SlideCall:
    """Probability per class of one slide, each array of shape (classes,)."""

    weighted: np.ndarray
    """Soft vote weighted by each patch's share of tissue: the call."""
    mean: np.ndarray
    """Plain mean over the patches."""

    @property
    def called(self) -> int:
        """Index of the called class."""
        return int(self.weighted.argmax())


def aggregate(probabilities: np.ndarray, tissue: np.ndarray) -> SlideCall:
    """Average patch `probabilities` (patches, classes), plainly and weighted by `tissue` (patches,), 0–1.

    Raises:
        ValueError: no patches, or no tissue in any.
    """
    if not len(probabilities) or not tissue.sum() > 0:
        raise ValueError("a slide is called from at least one patch with tissue")
    return SlideCall(
        weighted=np.average(probabilities.astype(np.float64), axis=0, weights=tissue),
        mean=probabilities.mean(axis=0, dtype=np.float64),
    )
