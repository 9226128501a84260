"""Whether the parts of a bundle belong together: taxonomy, prompt, classes and towers."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data.errors import InputError
from data.json_object import read_json_object
from data.taxonomy import Taxonomy, load_taxonomy
from mmlnb.bundle_files import REMEDY

MODEL = Path("fusion") / "model"
NEEDED = (
    "README.md",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "adapter/prompt.json",
    "config/finetune.yaml",
    "fusion/calibration.json",
    "fusion/model/fusion.json",
    "fusion/model/fusion.safetensors",
    "fusion/model/image_tower/tower.json",
    "fusion/model/text_tower/tower.json",
    "metrics.json",
    "taxonomy.yaml",
)
"""Files that no bundle can do without."""


@dataclass(frozen=True)
class Facts:
    """What the parts of a bundle say of themselves, after they were found to agree."""

    prompt: str
    """Key of the prompt that the adapter was trained with."""
    image_dim: int
    """Features of the image tower."""
    text_dim: int
    """Features of the text tower."""


def bundle_taxonomy(folder: Path) -> Taxonomy:
    """The taxonomy of the bundle in `folder`, which must stand by itself: what it extended was written into it.

    Raises:
        InputError: it is missing, no taxonomy, or extends a file that is not in the bundle.
    """
    path = folder / "taxonomy.yaml"
    if not path.is_file():
        raise InputError(f"{path}: missing from the bundle; {REMEDY}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML ({type(error).__name__}); {REMEDY}") from error
    if isinstance(content, dict) and "extends" in content:
        raise InputError(f"{path}: extends another taxonomy, which is not in the bundle; {REMEDY}")
    return load_taxonomy(path)


def check_agreement(folder: Path, taxonomy: Taxonomy) -> Facts:
    """Compare the parts of the bundle in `folder` with each other; no model is loaded.

    Raises:
        InputError: a needed file is missing, the prompt asks about other tissue than the taxonomy's, the fusion knows
            other classes, or a tower does not fit its weights.
    """
    for name in NEEDED:
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: missing from the bundle; {REMEDY}")
    model = read_json_object(folder / MODEL / "fusion.json", remedy=REMEDY)
    if model.get("classes") != list(taxonomy.class_names):
        raise InputError(
            f"{folder / MODEL / 'fusion.json'}: tells apart {_listed(model.get('classes'))}, but taxonomy.yaml has "
            f"{_listed(list(taxonomy.class_names))}; {REMEDY}"
        )
    widths = {}
    for modality in ("image", "text"):
        widths[modality] = _check_tower(folder, modality, classes=len(taxonomy.class_names))
    return Facts(prompt=_check_prompt(folder, taxonomy), image_dim=widths["image"], text_dim=widths["text"])


def _check_prompt(folder: Path, taxonomy: Taxonomy) -> str:
    """Fill the question of the fine-tuning in with the taxonomy; it must be the one that the adapter answers."""
    from vlm_finetune.prompt import PatchPrompt

    path = folder / "config" / "finetune.yaml"
    prompt = PatchPrompt.load(folder / "adapter")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        asked = {name: settings[name] for name in ("system", "question", "image_px")}
    except (yaml.YAMLError, RecursionError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not the settings of a fine-tuning ({type(error).__name__}); {REMEDY}") from error
    if PatchPrompt.fill(**asked, taxonomy=taxonomy).key != prompt.key:
        raise InputError(
            f"{folder / 'adapter' / 'prompt.json'}: asks {prompt.question!r}, which is not what config/finetune.yaml "
            f"and the {taxonomy.tissue} of taxonomy.yaml make of the question; {REMEDY}"
        )
    return prompt.key


def _check_tower(folder: Path, modality: str, *, classes: int) -> int:
    """Dimension of a tower, which the head on its features must have too."""
    path = folder / MODEL / f"{modality}_tower" / "tower.json"
    record = read_json_object(path, remedy=REMEDY).get("record")
    dim = record.get("dim") if isinstance(record, dict) else None
    if not isinstance(dim, int):
        raise InputError(f"{path}: does not say how many features the tower gives; {REMEDY}")
    weights = folder / MODEL / "fusion.safetensors"
    head = f"block.{modality}_head.weight"
    shape = _shapes(weights).get(head)
    if shape != [classes, dim]:
        raise InputError(
            f"{weights}: {head} has the shape {shape}, but taxonomy.yaml has {classes} classes and {path.parent.name} "
            f"{dim} features; {REMEDY}"
        )
    return dim


def _shapes(weights: Path) -> dict[str, Any]:
    """Name to shape of the tensors in a safetensors file, whose head of JSON is preceded by its length."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            tensors = json.loads(file.read(length))
            return {name: entry["shape"] for name, entry in tensors.items() if name != "__metadata__"}
        except (RecursionError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{weights}: is no safetensors file ({type(error).__name__}); {REMEDY}") from error


def _listed(classes: Any) -> str:
    return ", ".join(map(str, classes)) if isinstance(classes, list) and classes else "no classes"
