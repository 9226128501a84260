"""Render a template to one self-contained HTML file."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from data.atomic import write_text
from mmlnb import __version__


def write_page(template: str, path: Path, **content: Any) -> None:
    """Render `template` (in mmlnb/pages/templates) to `path`; all text is escaped."""
    write_text(path, _environment().get_template(template).render(version=__version__, **content))


def image_uri(pixels: np.ndarray, *, quality: int = 85) -> str:
    """Encode RGB uint8 (H, W, 3) as a JPEG data URI; pictures with few colours are better drawn as SVG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mmlnb.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    environment.filters["interval"] = _interval
    environment.filters["cell"] = _cell
    environment.filters["percent"] = lambda share: f"{share:.0%}"
    return environment


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _interval(value: tuple[float, float] | list[float] | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value[0]:.{digits}f} to {value[1]:.{digits}f}"


def _cell(value: object) -> str:
    """A value of a table as it stands in a file: whole numbers and words as they are."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
