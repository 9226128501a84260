"""Choose the device to run on."""

import torch

from data.errors import InputError


def choose_device(name: str) -> torch.device:
    """The device called `name`; auto is a GPU where there is one.

    Raises:
        InputError: the device is not on this machine.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if present["cuda"] else "cpu")
    if not present.get(name, False):
        raise InputError(f"device {name} is not on this machine; use {' or '.join(d for d in present if present[d])}")
    return torch.device(name)
