"""Which files of a model are read: safetensors, which hold numbers and nothing that could run."""

from pathlib import Path

from data.errors import InputError

PICKLES = frozenset([".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"])


def pickled_weights(folder: Path) -> Path | None:
    """First PyTorch pickle in `folder` where there is no safetensors file to read in its place, else None."""
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return None
    return next((path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICKLES), None)


def check_weight_files(folder: Path, name: str) -> None:
    """Raise InputError where the model `name` in `folder` has its weights as a pickle alone."""
    pickle = pickled_weights(folder)
    if pickle is not None:
        raise InputError(
            f"{pickle}: a PyTorch pickle, which may run code when it is read; `mmlnb prefetch {name}` writes its "
            "tensors as safetensors beside it"
        )
