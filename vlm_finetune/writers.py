"""Who writes captions, as the folders of the adapters and of the model tell."""

import json
from collections.abc import Sequence
from pathlib import Path

from data.caption_writers import CaptionWriter
from vlm_finetune.prompt import PROMPT_FILE
from vlm_finetune.run_folder import SPLIT_FILE
from vlm_finetune.unseen import TRAINED_ON_FILE

Patients = tuple[str, ...] | None


def find_writers(model: str, adapters: Sequence[Path | None]) -> list[CaptionWriter]:
    """The writers that `model` is with each of `adapters`."""
    from vlm_finetune.model import find_model, weights_key

    folder = find_model(model)
    # A model that was fine-tuned as a whole, or merged, has its prompt with it; any other has read no patient.
    base = _patients(folder) if (folder / PROMPT_FILE).is_file() else ((), ())
    writers = []
    for adapter in adapters:
        own = ((), ()) if adapter is None else _patients(adapter)
        trained, chosen = (_both(before, after) for before, after in zip(base, own, strict=True))
        writers.append(
            CaptionWriter(
                model=model,
                adapter=None if adapter is None else str(adapter),
                weights=None if adapter is None else weights_key(adapter),
                trained_on=trained,
                chosen_on=chosen,
            )
        )
    return writers


def _patients(folder: Path) -> tuple[Patients, Patients]:
    """Patients that were trained and validated on, as the run of `folder`, or around it, says."""
    run = folder if (folder / TRAINED_ON_FILE).is_file() else folder.parent
    return _read(run / TRAINED_ON_FILE, "patients"), _read(run / SPLIT_FILE, "val")


def _read(path: Path, name: str) -> Patients:
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8"))[name])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _both(before: Patients, after: Patients) -> Patients:
    return None if before is None or after is None else tuple(sorted({*before, *after}))
