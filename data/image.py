"""Read a plain image file as RGB pixels."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.errors import InputError
from data.pixel_limit import VARIABLE, check_pixels, max_image_pixels
from data.plain_reason import plain_reason

# What Pillow would warn of is refused here.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_image(path: Path) -> np.ndarray:
    """Decode `path` to RGB uint8 of shape (height, width, 3); transparency is laid on white.

    Raises:
        InputError: the file is missing, truncated or not an image, or has more pixels than allowed.
    """
    # Pillow refuses twice as many, also of images inside the image.
    Image.MAX_IMAGE_PIXELS = max_image_pixels()
    try:
        with Image.open(path) as image:
            # Only the header has been read.
            check_pixels(path, *image.size)
            image.load()
            if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
                return np.asarray(image.convert("RGB"))
            layered = image.convert("RGBA")
            return np.asarray(Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such image; correct the path in the manifest") from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: states more than twice the {max_image_pixels():,} pixels allowed; leave it out, or set "
            f"{VARIABLE} higher if you trust it"
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an image ({plain_reason(error)}); replace or remove it") from error
