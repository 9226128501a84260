"""A fusion model as a folder without pickle: architecture as JSON, weights as safetensors."""

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from data.atomic import atomic, write_json
from data.errors import InputError
from fusion.blocks import BLOCKS, build_block
from fusion.model import FusionModel
from fusion.tower import ImageTower, TextTower
from fusion.towers import rebuild_tower, save_tower

WEIGHTS = "fusion.safetensors"
SETTINGS = "fusion.json"


def save_model(model: FusionModel, folder: Path, *, class_names: Sequence[str]) -> None:
    """Write `model` to `folder`: fusion.json, fusion.safetensors, image_tower/ and text_tower/."""
    save_tower(model.image_tower, folder / "image_tower")
    save_tower(model.text_tower, folder / "text_tower")
    with atomic(folder / WEIGHTS) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, temporary)
    block = model.block
    name = next(name for name, kind in BLOCKS.items() if type(block) is kind)
    settings = {
        "block": name,
        "hidden": block.hidden,
        "dropout": block.dropout,
        "classes": list(class_names),
        "image_tower": model.image_tower.record.name,
        "text_tower": model.text_tower.record.name,
    }
    write_json(folder / SETTINGS, settings)


def load_model(folder: Path, *, trusted: Sequence[str] = ()) -> tuple[FusionModel, tuple[str, ...]]:
    """Read what `save_model` wrote: the model in evaluation mode, and the names of its classes in order.

    Args:
        trusted: models whose own code may run.

    Raises:
        InputError: the folder holds no model, or its files do not belong together.
    """
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        classes = tuple(settings["classes"])
        image_tower, text_tower = (
            rebuild_tower(folder / name, trusted=trusted) for name in ("image_tower", "text_tower")
        )
        assert isinstance(image_tower, ImageTower) and isinstance(text_tower, TextTower)
        block = build_block(
            settings["block"],
            image_dim=image_tower.dim,
            text_dim=text_tower.dim,
            classes=len(classes),
            hidden=settings["hidden"],
            dropout=settings["dropout"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: holds no trained model ({error}); train one with `mmlnb train`") from error
    model = FusionModel(image_tower=image_tower, text_tower=text_tower, block=block)
    try:
        # Strict: a weight that is silently missing is a model that silently guesses.
        model.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder / WEIGHTS}: does not fit its model ({reason}); train it again") from error
    model.eval()
    return model, classes
