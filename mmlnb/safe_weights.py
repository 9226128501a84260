"""Write weights that come as a PyTorch pickle as safetensors, running nothing of what the pickle says."""

import json
import pickle
from pathlib import Path

from data.atomic import atomic, write_json
from data.errors import InputError
from data.plain_reason import plain_reason
from data.weight_files import PICKLES, pickled_weights

INDEX = "pytorch_model.bin.index.json"


def write_safetensors(folder: Path) -> list[Path]:
    """Write the tensors of every pickle in `folder` beside it, under the name that loaders look for; returns the files.

    A folder that has safetensors is left as it is.

    Raises:
        InputError: a pickle holds anything but tensors, or is damaged.
    """
    if pickled_weights(folder) is None:
        return []
    written = [_convert(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in PICKLES]
    index = folder / INDEX
    if index.is_file():
        content = json.loads(index.read_text(encoding="utf-8"))
        content["weight_map"] = {key: _name(Path(file)) for key, file in content["weight_map"].items()}
        write_json(folder / "model.safetensors.index.json", content)
    return written


def _convert(path: Path) -> Path:
    import torch
    from safetensors.torch import save_file

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        first = plain_reason(error).partition(". ")[0][:200]
        raise InputError(f"{path}: not read, since it is damaged or holds more than tensors ({first})") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(torch.is_tensor(value) for value in content.values()):
        raise InputError(f"{path}: not read, since it is no state of a model: names and their tensors")
    target = path.with_name(_name(path))
    with atomic(target) as temporary:
        # Copies, since safetensors takes no two tensors in the same memory.
        save_file({name: tensor.contiguous().clone() for name, tensor in content.items()}, temporary, {"format": "pt"})
    return target


def _name(path: Path) -> str:
    """pytorch_model-00001-of-00002.bin is sought as model-00001-of-00002.safetensors, and open_clip's alike."""
    return path.stem.replace("pytorch_model", "model") + ".safetensors"
