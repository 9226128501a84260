"""Batches that halve when memory runs out."""

from collections.abc import Callable, Sequence

import pytest

from data.errors import InputError
from data.out_of_memory import run_in_batches

# As torch words it on a GPU, on the CPU of Linux and Windows, and on Apple's GPU.
MESSAGES = (
    "CUDA out of memory. Tried to allocate 20.00 GiB.",
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1",
    "[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.",
    "MPS backend out of memory (MPS allocated: 9.00 GB)",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
)
ERRORS = [MemoryError(), *map(RuntimeError, MESSAGES)]


def with_room_for(most: int, tried: list[int], error: Exception) -> Callable[[Sequence[int]], list[int]]:
    """Work that needs memory for each item of a batch, and notes the sizes it was tried with."""

    def run(items: Sequence[int]) -> list[int]:
        tried.append(len(items))
        if len(items) > most:
            raise error
        return list(items)

    return run


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error)[:12] or "MemoryError")
def test_the_batch_halves_until_it_fits_and_every_item_is_done_once_in_order(error: Exception) -> None:
    tried: list[int] = []
    results, size = run_in_batches(with_room_for(5, tried, error), range(50), size=32, name="the tower")
    assert [item for result in results for item in result] == list(range(50))
    assert size == 4
    assert tried[:4] == [32, 16, 8, 4]
    assert set(tried[4:]) == {4, 2}


def test_memory_that_runs_out_later_costs_nothing_that_was_done() -> None:
    room = iter([8, 8, 3, 3, 3, 3, 3, 3])
    done: list[int] = []

    def run(items: Sequence[int]) -> list[int]:
        if len(items) > next(room):
            raise MemoryError
        done.extend(items)
        return list(items)

    results, size = run_in_batches(run, range(24), size=8, name="x")
    assert done == [item for result in results for item in result] == list(range(24))[: len(done)]
    assert len(done) == 24
    assert size == 2


def test_enough_memory_keeps_the_size() -> None:
    tried: list[int] = []
    results, size = run_in_batches(with_room_for(99, tried, MemoryError()), range(20), size=8, name="x")
    assert (results, size, tried) == ([[*range(8)], [*range(8, 16)], [*range(16, 20)]], 8, [8, 8, 4])


def test_a_short_batch_halves_from_its_own_length() -> None:
    tried: list[int] = []
    _, size = run_in_batches(with_room_for(2, tried, MemoryError()), range(5), size=1000, name="x")
    assert (tried, size) == ([5, 2, 2, 1], 2)


def test_one_item_that_is_too_much_is_told_in_one_line() -> None:
    tried: list[int] = []
    with pytest.raises(InputError, match=r"^the tower: out of memory with one patch at a time; use a device") as caught:
        run_in_batches(with_room_for(0, tried, MemoryError()), range(3), size=64, name="the tower")
    assert "\n" not in str(caught.value)
    assert tried == [3, 1]


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), KeyError("x")])
def test_other_errors_are_passed_on_at_once(error: Exception) -> None:
    tried: list[int] = []
    with pytest.raises(type(error)) as caught:
        run_in_batches(with_room_for(0, tried, error), range(3), size=2, name="x")
    assert caught.value is error
    assert tried == [2]


def test_nothing_to_do_gives_nothing() -> None:
    assert run_in_batches(lambda _: 1 / 0, [], size=4, name="x") == ([], 4)


def test_the_memory_of_a_failed_attempt_is_free_before_the_next() -> None:
    alive: list[int] = []

    class Held:
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    def run(items: Sequence[int]) -> int:
        assert not alive
        held = [Held()]
        if len(items) > 1:
            raise MemoryError
        return len(held)

    assert run_in_batches(run, range(4), size=4, name="x") == ([1] * 4, 1)
