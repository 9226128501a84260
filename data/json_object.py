"""A JSON file from elsewhere as an object, or one line that says why it is none."""

import json
from pathlib import Path
from typing import Any

from data.errors import InputError


def read_json_object(path: Path, *, remedy: str) -> dict[str, Any]:
    """Read the JSON object in `path`.

    Args:
        path: file in UTF-8.
        remedy: what to do where it cannot be read, for the end of the message.

    Raises:
        InputError: it is missing, not JSON, nested too deeply, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; {remedy}") from error
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply to be read; {remedy}") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON in UTF-8 ({' '.join(str(error).split())[:120]}); {remedy}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object but a {type(content).__name__}; {remedy}")
    return content
