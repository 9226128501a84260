"""Work in batches that halve when memory runs out."""

import gc
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from data.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")
# What torch says on a GPU, on Apple's GPU, and on the CPU, besides raising errors of its own type.
MESSAGES = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


def run_in_batches(
    run: Callable[[Sequence[Item]], Result], items: Sequence[Item], *, size: int, name: str
) -> tuple[list[Result], int]:
    """Run on `size` items at a time, fewer where memory does not suffice; return the results and the size that did.

    `name` says in the error what was run. Raises InputError where even one item is too much.
    """
    results: list[Result] = []
    done = 0
    while done < len(items):
        try:
            result = run(items[done : done + size])
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise InputError(f"{name}: out of memory with one patch at a time; use a device with more") from error
            exhausted = True
        else:
            exhausted = False
            results.append(result)
        if exhausted:
            # Outside the handler, which holds the frames and so the memory of the attempt.
            size = max(1, min(size, len(items) - done) // 2)
            give_back()
        else:
            done += size
    return results, size


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says so, on whatever device."""
    return isinstance(error, MemoryError) or any(message in str(error).lower() for message in MESSAGES)


def give_back() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
