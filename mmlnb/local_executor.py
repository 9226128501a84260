"""All devices of one machine: a process for each, which share the slides by their leases."""

import os
import sys
from contextlib import redirect_stdout
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from data.devices import choose_device
from data.errors import InputError
from mmlnb.config import InferConfig
from mmlnb.inference import FolderRun, infer_here, open_folder

# The slides have ended by then, whoever called them: what a process still does is to write the same tables.
END_SECONDS = 60.0


def infer_on_devices(config: InferConfig) -> int:
    """Call the slides with one process for each device; this process is that of the first, and reports for all.

    Raises:
        InputError: as `mmlnb.inference.infer`.
    """
    devices = find_devices(config)
    run = open_folder(config)
    others = [_start(run, device) for device in devices[1:]]
    try:
        status = infer_here(run, device=devices[0])
        for process in others:
            process.join(END_SECONDS)
    finally:
        for process in others:
            process.terminate()
    return status


def find_devices(config: InferConfig) -> list[str]:
    """Devices to use: those that are named, all GPUs where `config.device` leaves it open, or one.

    Raises:
        InputError: no such device on this machine.
    """
    if config.devices:
        return [str(choose_device(device)) for device in config.devices]
    device = choose_device(config.device)
    # Under `accelerate launch` there is a process for each GPU already.
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" not in os.environ:
        import torch

        return [f"cuda:{gpu}" for gpu in range(torch.cuda.device_count())]
    return [config.device]


def _start(run: FolderRun, device: str) -> BaseProcess:
    process = get_context("spawn").Process(target=_infer_beside, args=(run, device), name=device)
    # One progress bar is enough; the first process counts the slides of all.
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        process.start()
    finally:
        del os.environ["TQDM_DISABLE"]
        if before is not None:
            os.environ["TQDM_DISABLE"] = before
    return process


def _infer_beside(run: FolderRun, device: str) -> None:
    """What the process of a further device does; what it cannot do, the others do in its place."""
    try:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            infer_here(run, device=device)
    except InputError as error:
        print(f"{device}: {error}; the other devices go on", file=sys.stderr)
