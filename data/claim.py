"""Whose an output folder is: a mark with the hash of the run that may write there."""

import json
from pathlib import Path

from data.atomic import write_json
from data.errors import InputError

MARK = "run.json"


def claim(out: Path, *, key: str) -> bool:
    """Mark `out` as the folder of the run `key`; return whether it was so already, from an earlier attempt.

    Raises:
        InputError: the folder holds another run, or files of something else.
    """
    claimed = check_claim(out, key=key)
    if not claimed:
        write_json(out / MARK, {"key": key})
    return claimed


def check_claim(out: Path, *, key: str) -> bool:
    """Return whether `out` is marked as the folder of the run `key`; as `claim`, but nothing is written."""
    mark = out / MARK
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; give a folder as --out")
    # Looked at once: another process of the same run may be just about to leave its mark.
    present = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if MARK in present:
        try:
            held = json.loads(mark.read_text(encoding="utf-8"))["key"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{mark}: cannot be read; remove the folder or choose another --out") from error
        if held != key:
            raise InputError(f"{out}: holds a run with other settings or inputs; remove it or choose another --out")
        return True
    if any(not name.startswith(".") for name in present):
        raise InputError(f"{out}: is not empty and holds no run of this command; choose another --out")
    return False
