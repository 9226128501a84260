"""The mark of whose run an output folder holds."""

import json
from pathlib import Path

from data.errors import InputError

RUN_FILE = "run.json"


def held_key(out: Path) -> str | None:
    """Key of the run that `out` holds, or None where it is not marked.

    Raises:
        InputError: the mark cannot be read.
    """
    path = out / RUN_FILE
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read; give another --out or delete this folder") from error
