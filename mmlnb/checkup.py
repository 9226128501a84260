"""Check that this machine can run everything, before a long run finds out."""

import shutil
import sys
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path

from data.errors import InputError
from mmlnb.config import DoctorConfig

PACKAGES = (
    *("torch", "torchvision", "transformers", "peft", "accelerate", "open_clip_torch", "timm"),
    *("openslide-python", "openslide-bin", "datasets", "tifffile", "imagecodecs"),
)


def doctor(config: DoctorConfig) -> int:
    """Print one line per check; return 0 if all hold, 1 otherwise."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Python", lambda: sys.version.split()[0]),
        *((name, lambda name=name: metadata.version(name)) for name in PACKAGES),
        ("import torchvision operators", _torchvision),
        ("OpenSlide library", lambda: import_module("openslide").__library_version__),
        ("device", _device),
        ("memory", _memory),
        ("disk here", lambda: f"{shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB free"),
        ("embedded vision-language model", _embedded_model),
        ("embedded bundle", _embedded_bundle),
    ]
    failed = 0
    for name, check in checks:
        try:
            print(f"ok      {name}: {check()}")
        except (ImportError, metadata.PackageNotFoundError, RuntimeError, OSError, InputError) as error:
            failed += 1
            print(f"FAILED  {name}: {type(error).__name__}: {error}")
    print("Everything is there." if not failed else f"{failed} checks failed; install again with `pip install mmlnb`.")
    return int(failed > 0)


def _torchvision() -> str:
    # A torchvision that does not belong to the torch beside it imports only half.
    import_module("torchvision.ops")
    return "ok"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return "mps" if torch.backends.mps.is_available() else f"cpu, {torch.get_num_threads()} threads"


def _memory() -> str:
    import psutil

    return f"{psutil.virtual_memory().available / 1e9:.0f} GB available"


def _embedded_model() -> str:
    from vlm_finetune.model import find_model

    return str(find_model("tiny"))


def _embedded_bundle() -> str:
    from mmlnb.bundles import load_bundle

    return str(load_bundle().folder)
