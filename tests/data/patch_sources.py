"""Twelve patients with two patches each, written in every form that `mmlnb prepare` reads."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FIELDS = ("file_name", "patient_id", "label", "description", "mpp", "findings")


@dataclass(frozen=True)
class Patch:
    """One patch as a person would list it."""

    file_name: str
    patient_id: str
    label: str
    description: str
    mpp: str = "0.5"
    findings: str = '{"neuropil": "scant"}'


def draw_patches(folder: Path, count: int = 24) -> list[Patch]:
    """Images of noise below `folder`/images, each unlike the others."""
    random = np.random.default_rng(0)
    patches = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        patient = number // 2
        name = f"images/p{patient}_{number}.png"
        Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / name)
        patches.append(Patch(name, f"p{patient}", ("UD", "PD", "D")[patient % 3], f"Scant neuropil, number {number}."))
    return patches


def write_csv(folder: Path, patches: Sequence[Patch]) -> Path:
    """The CSV of this project."""
    path = folder / "patches.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows({name: getattr(patch, name) for name in FIELDS} for patch in patches)
    return path


def _beside(patch: Patch) -> dict[str, object]:
    return {
        "label": patch.label,
        "patient_id": patch.patient_id,
        "mpp": float(patch.mpp),
        "findings": json.loads(patch.findings),
    }


def write_messages(folder: Path, patches: Sequence[Patch]) -> Path:
    """JSON Lines of chats, the image inside the user's turn."""
    lines = []
    for patch in patches:
        asked = [{"type": "image", "image": patch.file_name}, {"type": "text", "text": "What is seen?"}]
        turns = [
            {"role": "system", "content": "You are a pathologist."},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": [{"type": "text", "text": patch.description}]},
        ]
        lines.append(json.dumps({"messages": turns, **_beside(patch)}))
    return _write(folder / "messages.jsonl", "\n".join(lines))


def write_images_beside(folder: Path, patches: Sequence[Patch]) -> Path:
    """JSON Lines of chats, the image named beside them."""
    lines = []
    for patch in patches:
        turns = [
            {"role": "user", "content": "<image>What is seen?"},
            {"role": "assistant", "content": patch.description},
        ]
        lines.append(json.dumps({"messages": turns, "images": [patch.file_name], **_beside(patch)}, ensure_ascii=False))
    return _write(folder / "chats.ndjson", "\n".join(lines) + "\n")


def write_llava(folder: Path, patches: Sequence[Patch]) -> Path:
    """LLaVA's list of conversations."""
    entries = [
        {
            "id": str(number),
            "image": patch.file_name,
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is seen?"},
                {"from": "gpt", "value": patch.description},
            ],
            **_beside(patch),
        }
        for number, patch in enumerate(patches)
    ]
    return _write(folder / "llava.json", json.dumps(entries, indent=1))


def write_metadata(folder: Path, patches: Sequence[Patch]) -> Path:
    """An image folder with metadata.jsonl."""
    lines = [
        json.dumps({"file_name": patch.file_name, "text": patch.description, **_beside(patch)}) for patch in patches
    ]
    _write(folder / "metadata.jsonl", "\n".join(lines))
    return folder


def write_dataset(folder: Path, patches: Sequence[Patch]) -> Path:
    """A dataset with the images inside, as `save_to_disk` leaves it."""
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Image as ImageFeature

    text = Value("string")
    features = Features(
        {
            "image": ImageFeature(),
            "description": text,
            "class": ClassLabel(names=["D", "PD", "UD"]),
            "patient_id": text,
            "mpp": Value("float64"),
            "findings": {"neuropil": text, "necrosis": text},
        }
    )
    rows = [
        {
            "image": str(folder / patch.file_name),
            "description": patch.description,
            "class": patch.label,
            "patient_id": patch.patient_id,
            "mpp": float(patch.mpp),
            "findings": {"necrosis": None, "neuropil": None} | json.loads(patch.findings),
        }
        for patch in patches
    ]
    Dataset.from_list(rows, features=features).save_to_disk(folder / "dataset")
    return folder / "dataset"


WRITERS: dict[str, Callable[[Path, Sequence[Patch]], Path]] = {
    "csv": write_csv,
    "messages": write_messages,
    "images beside": write_images_beside,
    "llava": write_llava,
    "metadata": write_metadata,
    "dataset": write_dataset,
}


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
