"""Processes that read slides, so that a decoder that crashes, hangs or leaks costs one slide and not the run."""

import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any

import numpy as np

from data.errors import InputError
from data.plain_reason import plain_trace

# One slot is being filled while the other waits to be consumed.
SLOTS = 2
LARGEST_KEPT_BYTES = 31 * 2**20
# What is not answered by then is not worth the wait: another process starts sooner.
STOP_SECONDS = 2.0


class ReaderStopped(InputError):
    """A reading process died or took too long; the pool has started others in its place."""


class TimeLimitPassed(ReaderStopped):
    """What was to be done took longer than it may."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: the time limit has passed; raise --time-limit and go on with --retry-failed")


class ReaderPool:
    """Processes that run functions on slides, each with buffers that it shares with this process.

    They are spawned, never forked: decoders and their threads do not survive a fork. A function that is run must be
    importable, and takes the buffer (uint8, `slot_bytes`) as its last argument: the place for pixels, since arguments
    and results are pickled and wait in a pipe.
    """

    def __init__(self, *, workers: int, slot_bytes: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._slot_bytes = slot_bytes
        self._workers = [self._start() for _ in range(max(1, workers))]
        self._stream: object = None

    def __enter__(self) -> "ReaderPool":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def workers(self) -> int:
        """Number of processes."""
        return len(self._workers)

    @property
    def slot_bytes(self) -> int:
        """Size of the buffer that a function may fill."""
        return self._slot_bytes

    def run(self, function: Callable[..., Any], *arguments: Any, name: str, deadline: float | None = None) -> Any:
        """Run `function(*arguments, buffer)` in one process and return what it returns, or raise what it raises.

        `name` is the slide that an error has to name, `deadline` a time of `time.monotonic`.
        """
        for value, _ in self.stream(function, [arguments], name=name, deadline=deadline):
            return value
        raise AssertionError("a stream of one call gives one result")

    def stream(
        self,
        function: Callable[..., Any],
        calls: Iterable[Sequence[Any]],
        *,
        name: str,
        deadline: float | None = None,
    ) -> Generator[tuple[Any, np.ndarray], None, None]:
        """Yield the result and the filled buffer of every call, in their order, while the processes work ahead.

        At most two calls per process are under way. A buffer is valid until the next one is asked for; a stream ends
        where another begins. Raises ReaderStopped where a process dies or `deadline` passes, and whatever a call
        raised.
        """
        stream = self._stream = object()
        # What an abandoned stream left under way, or a process that died since.
        self._clear()
        calls = iter(calls)
        turn = itertools.cycle(self._workers)
        waiting: deque[_Worker] = deque()

        def fill() -> None:
            while len(waiting) < SLOTS * len(self._workers):
                call = next(calls, None)
                if call is None:
                    return
                worker = next(turn)
                waiting.append(worker)
                worker.send(function, call)

        finished = False
        try:
            fill()
            while waiting:
                yield waiting[0].receive(deadline)
                if self._stream is not stream:
                    raise RuntimeError(f"{name}: reading was ended by another stream of the same pool, or its close")
                waiting.popleft()
                fill()
            finished = True
        except _Died as error:
            raise ReaderStopped(f"{name}: the process that read it {error}; replace the file or leave it out") from None
        except _Late:
            raise TimeLimitPassed(name) from None
        finally:
            # The answers under way are another stream's by now, or the processes are gone.
            if not finished and self._stream is stream:
                self._clear()

    def close(self) -> None:
        """Stop the processes."""
        self._stream = None
        for worker in self._workers:
            worker.stop()

    def _start(self) -> "_Worker":
        return _Worker(self._context, self._slot_bytes)

    def _clear(self) -> None:
        """Leave no result under way: wait for those that come soon, and replace the processes that do not answer."""
        until = time.monotonic() + STOP_SECONDS
        for index, worker in enumerate(self._workers):
            if not worker.drain(until):
                worker.stop()
                self._workers[index] = self._start()


class _Died(Exception):
    """The process ended; the message says how."""


class _Late(Exception):
    """The deadline passed before the process answered."""


class _Worker:
    """One process, its buffers, and the calls that it has not answered yet."""

    def __init__(self, context: Any, slot_bytes: int) -> None:
        shared = [context.RawArray("B", slot_bytes) for _ in range(SLOTS)]
        self._slots = [np.frombuffer(slot, dtype=np.uint8) for slot in shared]
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, shared), name="reader", daemon=True)
        with _without_main():
            self._process.start()
        theirs.close()
        self._slot = itertools.cycle(range(SLOTS))
        self._under_way: deque[int] = deque()

    def send(self, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
        slot = next(self._slot)
        self._under_way.append(slot)
        try:
            self._connection.send((function, tuple(arguments), slot))
        except (BrokenPipeError, ConnectionError):
            # Whoever waits for the answer learns how the process ended.
            return

    def receive(self, deadline: float | None) -> tuple[Any, np.ndarray]:
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not wait([self._connection, self._process.sentinel], remaining):
            raise _Late
        slot = self._under_way.popleft()
        try:
            done, value = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join(STOP_SECONDS)
            raise _Died(_ending(self._process.exitcode)) from None
        if not done:
            raise value
        return value, self._slots[slot]

    def drain(self, until: float) -> bool:
        """Discard the answers to come; return whether the process is alive and idle."""
        while self._under_way:
            try:
                self.receive(until)
            except (_Died, _Late):
                return False
            except Exception:  # what the call raised, which nobody waits for any more
                continue
        return self._process.is_alive()

    def stop(self) -> None:
        self._connection.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module, which a spawned process would import: a script without a guard would run again in it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _ending(status: int | None) -> str:
    if status is None or status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _serve(connection: Connection, shared: list[Any]) -> None:
    """Answer calls until the other side is gone."""
    # Ctrl-C goes to the whole group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    slots = [np.frombuffer(slot, dtype=np.uint8) for slot in shared]
    # Having freed a block of this size, glibc keeps what a closed slide gives back instead of asking for it again
    # page by page, which costs 15 % of the time of a small slide.
    np.empty(LARGEST_KEPT_BYTES, dtype=np.uint8)
    while True:
        try:
            function, arguments, slot = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer = pickle.dumps((True, function(*arguments, slots[slot])))
        except Exception as error:
            answer = _pickled(error)
        connection.send_bytes(answer)


def _pickled(error: Exception) -> bytes:
    """Pickle an error as the answer to a call."""
    if isinstance(error, InputError):
        return pickle.dumps((False, error))
    # Pickling drops the traceback, and whoever has to mend it needs it.
    error.add_note("in the reading process:\n" + plain_trace(error))
    try:
        answer = pickle.dumps((False, error))
        pickle.loads(answer)
    except Exception:  # whatever the error's own class raises where it takes other arguments than a message
        stand_in = RuntimeError(f"{type(error).__name__}: {error}")
        stand_in.__notes__ = error.__notes__
        return pickle.dumps((False, stand_in))
    return answer


def _follow_parent() -> None:
    """End this process with its parent, also while a decoder hangs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
