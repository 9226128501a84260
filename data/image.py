"""Read a plain image file as RGB pixels."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.errors import InputError


def read_image(path: Path) -> np.ndarray:
    """Decode `path` to RGB uint8 of shape (height, width, 3); transparency is laid on white.

    Raises:
        InputError: the file is missing, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
                return np.asarray(image.convert("RGB"))
            layered = image.convert("RGBA")
            return np.asarray(Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such image; correct the path in the manifest") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); replace or remove it") from error
