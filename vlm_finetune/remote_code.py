"""Code that comes with a model runs only where whoever starts the command names the model."""

from pathlib import Path

from data.errors import InputError


def refuse_remote_code(folder: Path, error: Exception) -> None:
    """Raise InputError where the library's `error` says that the model in `folder` has code of its own."""
    if "trust_remote_code" in str(error):
        raise InputError(
            f"{folder}: runs code that comes with the model; read it, then name the model in "
            "--trust_remote_code [NAME], as --model names it, or choose another"
        ) from error
