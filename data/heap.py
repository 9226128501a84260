"""Let the allocator keep large blocks, so that a training step on a CPU does not fetch its memory anew."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_large_blocks() -> bool:
    """Stop glibc from giving large blocks back to the system one by one; returns whether it agreed.

    Activations of large images are such blocks: the system clears every page of them each time they are handed out.
    Elsewhere than on Linux with glibc nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
