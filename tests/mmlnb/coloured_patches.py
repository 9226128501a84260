"""Coloured patches of several patients and slides, with captions by three writers of unlike skill."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from data.manifest import write_manifest

COLOURS = {"UD": (150, 90, 160), "PD": (180, 120, 185), "D": (210, 150, 205)}
WORDS = {"UD": "sheets of small round cells", "PD": "fibrils with rosettes", "D": "many large cells"}
PATIENTS = {"train": 2, "val": 1, "test": 2}
PATCHES = 4
# Share of the captions that say what is there.
SKILL = {"base": 0.4, "finetuned": 0.9, "crossfitted": 0.8}


def write_coloured(folder: Path, *, named_slides: bool = True) -> dict[str, Path]:
    """Write patches, manifest and captions; returns the path of the manifest and of the captions by writer."""
    random = np.random.default_rng(3)
    rows = []
    (folder / "patches").mkdir(parents=True)
    for split, patients in PATIENTS.items():
        for label, colour in COLOURS.items():
            for patient in range(patients):
                own = random.normal(0, 12, size=3)
                for number in range(PATCHES):
                    name = f"{split}-{label}-{patient}-{number}"
                    noise = random.normal(0, 25, size=(40, 40, 3)) + own
                    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / "patches" / f"{name}.png")
                    rows.append(
                        {
                            "patch_id": name,
                            "image": f"patches/{name}.png",
                            "slide_id": f"{split}-{label}-{patient}.svs" if named_slides else None,
                            "patient_id": f"{split}-{label}-{patient}",
                            "x": 0,
                            "y": 0,
                            "size_px": 40,
                            "mpp": 0.5,
                            "label": label,
                            "description": None,
                            "findings": None,
                            "split": split,
                        }
                    )
    paths = {"manifest": folder / "patches.parquet"}
    write_manifest(pd.DataFrame(rows), paths["manifest"])
    for writer, skill in SKILL.items():
        paths[writer] = folder / f"captions-{writer}"
        paths[writer].mkdir()
        texts = [WORDS[row["label"] if random.random() < skill else random.choice(list(WORDS))] for row in rows]
        captions = [
            {"patch_id": row["patch_id"], "text": text, "error": None} for row, text in zip(rows, texts, strict=True)
        ]
        pd.DataFrame(captions).to_parquet(paths[writer] / "part-0.parquet")
    return paths


def write_short_curriculum(path: Path) -> Path:
    """Write settings of a training that takes a second."""
    path.write_text(
        "image_tower: tiny-image\ntext_tower: tiny-text\npretrained: false\nhidden: 16\nbatch_size: 12\n"
        "learning_rate: 2.0e-3\nbalance: weighted\ngate_loss: 0.5\ntext_swap_across: 0.2\nworkers: 1\ndevice: cpu\n"
        "stages:\n"
        "  - {name: image, epochs: 1, freeze: [text], alpha_from: 0.3}\n"
        "  - {name: joint, epochs: 2, alpha_from: 0.3, alpha_to: 1.0, alpha_step: 0.7, learning_rate: 1.0e-3}\n"
        "  - {name: fusion, epochs: 1, freeze: [image, text]}\n"
    )
    return path
