"""Whether patches have the resolution that an image tower was trained at."""

import logging

import numpy as np

from fusion.tower import ImageTower

logger = logging.getLogger(__name__)


def warn_of_resolution(tower: ImageTower, *, extents: np.ndarray) -> None:
    """Warn, naming both numbers, when the tower will see its patches at another resolution than it was trained at.

    Args:
        extents: (N,) side of each patch in µm; NaN where its resolution is unknown.
    """
    expected = tower.record.mpp
    known = extents[np.isfinite(extents)]
    if expected is None or not len(known):
        return
    seen = float(np.median(known)) / tower.framing.resize
    if not 0.8 < seen / expected < 1.25:
        logger.warning(
            "image tower %s was trained at %.3g µm/px and will see these patches at %.3g µm/px",
            tower.record.name,
            expected,
            seen,
        )
