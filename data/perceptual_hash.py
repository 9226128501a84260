"""A hash of what a patch looks like: nearly the same picture gives nearly the same bits, however it was compressed."""

import cv2
import numpy as np

AXIS = 16
"""Frequencies per axis; the hash has a bit for each pair of them."""
BITS = AXIS * AXIS
_THUMBNAIL_PX = 32
# Below these the bits of a patch are noise, or those of any patch of glass with a speck in it, whose spectrum is as
# wide as that of tissue: the share of the thumbnail in which neighbours differ, in grey levels, and the median
# frequency, which a straight edge or a shadow alone leaves empty.
_LEAST_STEP = 3.0
_LEAST_TEXTURE = 0.15
_LEAST_MEDIAN = 4.0


def perceptual_hash(pixels: np.ndarray) -> str | None:
    """Hash of RGB uint8 `pixels` (H, W, 3) as 64 hex digits; None for a patch that is too smooth to be told by it.

    The signs of the lowest 16 × 16 frequencies but the mean, of a cosine transform of the patch as 32 × 32 grey values
    (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). Changes of size, brightness
    and contrast leave it as it is.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY).astype(np.float32)
    thumbnail = cv2.resize(grey, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    steps = np.maximum(np.abs(np.diff(thumbnail, axis=0))[:, 1:], np.abs(np.diff(thumbnail, axis=1))[1:])
    waves = cv2.dct(thumbnail)[:AXIS, :AXIS]
    if np.mean(steps >= _LEAST_STEP) < _LEAST_TEXTURE or np.median(np.abs(waves)) < _LEAST_MEDIAN:
        return None
    signs = waves > 0
    signs[0, 0] = False
    return np.packbits(signs).tobytes().hex()


def hash_bits(hashes: list[str]) -> np.ndarray:
    """Bits of N `hashes`, bool (N, 16, 16): vertical by horizontal frequency."""
    packed = np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(-1, BITS // 8)
    return np.unpackbits(packed, axis=1).reshape(-1, AXIS, AXIS).astype(bool)


def turned(bits: np.ndarray) -> list[np.ndarray]:
    """The hashes `bits` (N, 16, 16) of the same patches in all 8 positions of a square, as they are first.

    A mirrored wave of odd frequency has the opposite sign, and a transposed patch has its frequencies transposed.
    """
    odd = np.arange(AXIS) % 2 == 1
    found = []
    for upright in (bits, bits.transpose(0, 2, 1)):
        for across in (False, True):
            for down in (False, True):
                position = upright ^ (odd & across) ^ (odd & down)[:, None]
                position[:, 0, 0] = False
                found.append(position)
    return found
