"""What a fine-tuning run leaves beside its weights: on which data, with which versions, and a card."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.atomic import digest, write_json, write_text
from data.taxonomy import Taxonomy
from vlm_finetune.unseen import TRAINED_ON_FILE

if TYPE_CHECKING:
    from vlm_finetune.pairs import Pair

CONFIG_FILE, METRICS_FILE = "config.yaml", "metrics.json"
TAXONOMY_FILE, DATA_FILE, SPLIT_FILE, VERSIONS_FILE = "taxonomy.yaml", "data.json", "split.json", "versions.json"
ADAPTER, MODEL = "adapter", "model"
"""Folder of the weights: of an adapter, or of a model that was trained as a whole."""

_PACKAGES = ("mmlnb", "torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "bitsandbytes")


def fingerprint(pairs: "Sequence[Pair]") -> str:
    """Hash of the pairs in their order: ids, patients, descriptions, and the bytes of the image files."""
    return digest(
        *(
            part
            for pair in pairs
            for part in (pair.patch_id, pair.patient_id or "", pair.description, pair.image.read_bytes())
        )
    )


def describe_data(splits: "Mapping[str, Sequence[Pair]]") -> dict[str, dict[str, Any]]:
    """Counts and fingerprint of each split, as data.json holds them."""
    return {
        name: {"pairs": len(pairs), "patients": len(_patients(pairs)), "fingerprint": fingerprint(pairs)}
        for name, pairs in splits.items()
    }


def write_run_folder(
    out: Path, *, splits: "Mapping[str, Sequence[Pair]]", data: dict[str, dict[str, Any]], taxonomy: Taxonomy
) -> None:
    """Write taxonomy.yaml, data.json, split.json, trained_on.json and versions.json into `out`."""
    write_text(out / TAXONOMY_FILE, taxonomy.source)
    write_json(out / DATA_FILE, data)
    write_json(out / SPLIT_FILE, {name: _patients(pairs) for name, pairs in splits.items()})
    write_json(out / TRAINED_ON_FILE, {"patients": _patients(splits["train"]), "pairs": len(splits["train"])})
    write_json(out / VERSIONS_FILE, _versions())


def _patients(pairs: "Sequence[Pair]") -> list[str]:
    return sorted({pair.patient_id for pair in pairs if pair.patient_id is not None})


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # Only some runs need bitsandbytes, and a checkout that was not installed has no version.
    return found
