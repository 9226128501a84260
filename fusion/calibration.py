"""Temperature scaling (Guo et al. 2017), fitted on validation rows."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

LOG_RANGE = (-3.0, 3.0)
"""Bounds of the temperature's logarithm: few rows that are all correct would otherwise ask for none at all."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Temperature T > 0 that makes softmax(logits / T) most likely.

    Args:
        logits: (N, C).
        labels: (N,) class indices; with none, T is 1.
    """
    if not len(labels):
        return 1.0

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(labels)), labels].mean())

    found = minimize_scalar(negative_log_likelihood, bounds=LOG_RANGE, method="bounded")
    return round(float(np.exp(found.x)), 6)
