"""Byte damage to slide files, drawn at random from a seed."""

import random
from collections.abc import Callable
from pathlib import Path

# Bytes at the front and the back of the file among which headers and directories of TIFF and DICOM lie.
HEADER_BYTES = 4096
BLOCK = 4096


def damage(content: bytes, *, kind: str, rng: random.Random) -> bytes:
    """Return `content` with damage of the given kind, one of `KINDS`."""
    data = bytearray(content)
    KINDS[kind](data, rng)
    return bytes(data)


def write_damaged(source: Path, path: Path, *, kind: str, seed: int) -> Path:
    """Write a damaged copy of `source` to `path` and return it."""
    path.write_bytes(damage(source.read_bytes(), kind=kind, rng=random.Random(seed)))
    return path


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 20, 500])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(1, len(data)) :]


def _zero(data: bytearray, rng: random.Random) -> None:
    length = rng.choice([64, BLOCK, 20 * BLOCK])
    start = rng.randrange(len(data))
    data[start : start + length] = bytes(len(data[start : start + length]))


def _swap(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 10])):
        one, other = (rng.randrange(max(1, len(data) - BLOCK)) // BLOCK * BLOCK for _ in range(2))
        data[one : one + BLOCK], data[other : other + BLOCK] = data[other : other + BLOCK], data[one : one + BLOCK]


def _header(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 5, 40])):
        data[rng.randrange(min(HEADER_BYTES, len(data)))] = rng.randrange(256)


def _directory(data: bytearray, rng: random.Random) -> None:
    """Change entries of a TIFF directory: 12 bytes each, of tag, type, count, value."""
    starts = _directories(data) or [0]
    for _ in range(rng.choice([1, 1, 3])):
        start = rng.choice(starts)
        entry = start + 2 + 12 * rng.randrange(max(1, int.from_bytes(data[start : start + 2], "little") % 64))
        field = entry + rng.choice([0, 2, 4, 8, 8, 8])
        value = rng.choice([0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, rng.randrange(2**16), rng.randrange(2**32)])
        data[field : field + 4] = value.to_bytes(4, "little")[: len(data[field : field + 4])]


def _directories(data: bytearray) -> list[int]:
    """Offsets of the directories of a classic little-endian TIFF; empty for anything else."""
    found: list[int] = []
    place = 4 if data[:4] == b"II*\0" else len(data)
    while 0 < place + 4 <= len(data):
        start = int.from_bytes(data[place : place + 4], "little")
        if start == 0 or start in found or start + 2 > len(data):
            break
        found.append(start)
        place = start + 2 + 12 * int.from_bytes(data[start : start + 2], "little")
    return found


KINDS: dict[str, Callable[[bytearray, random.Random], None]] = {
    "flipped bits": _flip,
    "truncated": _truncate,
    "zeroed run": _zero,
    "swapped blocks": _swap,
    "header": _header,
    "directory": _directory,
}
