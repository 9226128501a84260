"""Which models wrote the captions of a folder, and whose descriptions each of them had read before."""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.atomic import write_json
from data.errors import InputError

WRITERS_FILE = "writers.json"
_SEEN = {"train": (), "val": ("trained_on",), "test": ("trained_on", "chosen_on")}
"""What may not hold a patient of a split, so that the split can be measured."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CaptionWriter:
    """A model, with its adapter if it has one."""

    model: str
    """Base model, by the name it was given."""
    adapter: str | None
    """Folder of the adapter, by the name it was given; None for the model as it is."""
    weights: str | None
    """Hash of the adapter's weights."""
    trained_on: tuple[str, ...] | None
    """Patients whose descriptions it was trained on; None where that is unknown."""
    chosen_on: tuple[str, ...] | None
    """Patients whose descriptions it was validated on; None where that is unknown."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.model if self.adapter is None else self.adapter


def write_writers(folder: Path, writers: Sequence[CaptionWriter]) -> None:
    """Write `writers` beside the captions in `folder`."""
    write_json(folder / WRITERS_FILE, {"writers": [vars(writer) for writer in writers]})


def read_writers(folder: Path) -> list[CaptionWriter] | None:
    """Those who wrote the captions in `folder`; None where it does not say.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder / WRITERS_FILE
    if not path.is_file():
        return None
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["writers"]
        lists = [
            {use: None if entry[use] is None else tuple(entry[use]) for use in ("trained_on", "chosen_on")}
            for entry in entries
        ]
        return [CaptionWriter(**entry | patients) for entry, patients in zip(entries, lists, strict=True)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read; give the same `mmlnb caption` again, which writes it") from error


def check_writers(folder: Path, patients: Collection[str | None], *, split: str) -> dict[str, int | None]:
    """Refuse the captions in `folder` where a model behind them has read descriptions of `patients` of `split`.

    For val it may not have been trained on them, for test not validated either; all of its writers count, since what
    one has learnt is in the text that the fusion was trained on. What is unknown is warned of.

    Returns:
        How many writers there are, None where the folder does not say, and of how many the patients are unknown.

    Raises:
        InputError: naming the model and the first such patient.
    """
    if not _SEEN[split]:
        return {"writers": None, "unknown": None}
    writers = read_writers(folder)
    if writers is None:
        logger.warning(
            "%s: does not say who wrote the captions (%s is missing), so a model that knows patients of the split %s "
            "cannot be ruled out; the same `mmlnb caption` once more writes it and describes nothing again",
            *(folder, WRITERS_FILE, split),
        )
        return {"writers": None, "unknown": None}
    unknown = [writer.name for writer in writers if None in (writer.trained_on, writer.chosen_on)]
    if unknown:
        logger.warning(
            "%s: whose descriptions %s was trained on is unknown, so that patients of the split %s cannot be ruled out",
            *(folder / WRITERS_FILE, unknown[0], split),
        )
    for writer in writers:
        for use in _SEEN[split]:
            shared = sorted(set(getattr(writer, use) or ()) & set(patients))
            if shared:
                others = f" (and {len(shared) - 1} more)" if len(shared) > 1 else ""
                raise InputError(
                    f"{folder / WRITERS_FILE}: {writer.name}, which wrote captions, was {use.replace('_', ' ')} "
                    f"patient {shared[0]}{others} of the split {split}; describe the patches with an adapter that was "
                    "fine-tuned without them"
                )
    return {"writers": len(writers), "unknown": len(unknown)}
