"""Choose the device that a process runs on."""

import os
from typing import TYPE_CHECKING

from data.errors import InputError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> "torch.device":
    """Device `name`: auto, cpu, cuda, cuda:N or mps.

    auto is a CUDA GPU where there is one and the CPU elsewhere; mps is used only by name, since it lacks operations.
    auto and cuda are this process's own GPU under `accelerate launch`.

    Raises:
        InputError: no such device on this machine.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    present = {"cpu": True, "cuda": gpus > 0, "mps": torch.backends.mps.is_available()}
    if name == "auto":
        # What `accelerate launch --cpu` sets: its processes then meet on the CPU.
        asked_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
        name = "cuda" if gpus and not asked_cpu else "cpu"
    if name == "cuda" and gpus > 1 and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    kind, _, number = name.partition(":")
    if kind not in present or (number and (kind != "cuda" or not number.isdecimal())) or name.endswith(":"):
        raise InputError(f"--device {name}: not a device; give auto, cpu, cuda, cuda:N or mps")
    if not present[kind] or (number and int(number) >= gpus):
        found = [*(one for one in present if present[one]), *(f"cuda:{gpu}" for gpu in range(gpus) if gpus > 1)]
        raise InputError(f"--device {name}: not on this machine; give auto or {' or '.join(found)}")
    return torch.device(name)


def choose_training_device(name: str) -> "torch.device":
    """Device `name` for a loop whose processes `accelerate` places itself: as `choose_device`, but without a number.

    Raises:
        InputError: a numbered GPU, or no such device on this machine.
    """
    if name.startswith("cuda:"):
        raise InputError(f"--device {name}: training takes no number; give cuda, and CUDA_VISIBLE_DEVICES for one GPU")
    return choose_device(name)
