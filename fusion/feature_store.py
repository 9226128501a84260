"""Features of frozen towers on disk: one memory-mapped array per key, whole or absent."""

import json
import logging
from pathlib import Path

import numpy as np

from data.atomic import atomic, digest, write_json

logger = logging.getLogger(__name__)


class FeatureStore:
    """A folder of arrays, each named by the hash of all that decides it, so that a change never meets an old one."""

    def __init__(self, folder: Path, *, warn: bool = True) -> None:
        """Keep arrays in `folder`; of several processes only one should `warn` of damaged ones."""
        self.folder = folder
        self.warn = warn

    def load(self, key: str) -> np.ndarray | None:
        """Features (N, D) float32 of `key`, mapped from the disk; None where they are absent or damaged."""
        array, seal = self._paths(key)
        if not seal.is_file():
            return None
        try:
            # Copy on write: torch wants memory that it may write to, and the file must stay as it is.
            features: np.ndarray = np.load(array, mmap_mode="c")
            if _digest(features) != json.loads(seal.read_text(encoding="utf-8"))["digest"]:
                raise ValueError("its content has changed")
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            if self.warn:
                logger.warning("%s: damaged (%s); encoded again", array, error)
            return None
        return features

    def save(self, key: str, features: np.ndarray) -> None:
        """Write `features` (N, D) under `key`; the seal comes last and says that the array is whole."""
        array, seal = self._paths(key)
        seal.unlink(missing_ok=True)
        with atomic(array) as temporary:
            np.save(temporary, features)
        write_json(seal, {"digest": _digest(features), "shape": list(features.shape)})

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self.folder / f"{key}.npy", self.folder / f"{key}.json"


def _digest(features: np.ndarray) -> str:
    return digest(str(features.dtype), str(features.shape), np.ascontiguousarray(features).data.cast("B"))
