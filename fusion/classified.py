"""Classified rows, patches or slides: what every measure and every resample starts from."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Classified:
    """N rows with their true class, what they were called, and whose they are."""

    labels: np.ndarray
    """(N,) class indices."""
    probabilities: np.ndarray
    """(N, C)."""
    owners: np.ndarray
    """(N,) names: the patient, or what stands for one where the patient is unknown."""

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, chosen: np.ndarray) -> "Classified":
        """The rows that `chosen` (indices, or N bools) names."""
        return Classified(self.labels[chosen], self.probabilities[chosen], self.owners[chosen])

    @property
    def patients(self) -> int:
        """Number of different owners."""
        return len(np.unique(self.owners))
