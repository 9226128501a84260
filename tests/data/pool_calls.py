"""Functions that the tests run in reading processes, which import them from here."""

import ctypes
import os
import signal
import sys
import time
from typing import Any

import numpy as np

from data.errors import InputError


class ForTheUser(InputError):
    """An InputError of a kind of its own."""


class TakesTwo(Exception):
    """An error that pickling cannot rebuild, as several packages have them."""

    def __init__(self, what: str, where: int) -> None:
        super().__init__(f"{what} at {where}")


def fill(value: int, buffer: np.ndarray) -> tuple[int, int]:
    """Write `value` into the buffer and return it with the number of this process."""
    # Later calls are the faster ones, so results that are not put in order show.
    time.sleep(0.02 / (value + 1))
    buffer[:] = value
    return value, os.getpid()


def fill_slowly(value: int, buffer: np.ndarray) -> int:
    """Write `value` into the buffer after a while."""
    time.sleep(0.3)
    buffer[:] = value
    return value


def complain(kind: str, _: np.ndarray) -> None:
    """Raise an error of this kind."""
    raise {
        "InputError": InputError("slide.svs: an odd file; mend it"),
        "ForTheUser": ForTheUser("slide.svs: odder still; mend it"),
        "KeyError": KeyError("what is missing"),
        "TakesTwo": TakesTwo("broken", 7),
    }[kind]


def answer_with(kind: str, _: np.ndarray) -> Any:
    """Return what cannot be pickled."""
    return {"lock": sys.stdout, "function": lambda: kind}[kind]


def die(how: str, _: np.ndarray) -> None:
    """End this process in the given way."""
    if how == "null pointer":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.Signals[how])
    time.sleep(60)


def hang(seconds: float, _: np.ndarray) -> None:
    """Do not answer for a while."""
    time.sleep(seconds)


def log_start(value: int, log: str, _: np.ndarray) -> int:
    """Append the number of the call to a file, and return it."""
    with open(log, "a") as file:  # noqa: PTH123 - one system call per line
        file.write(f"{value}\n")
    return value


def attribute_of_sys(name: str, _: np.ndarray) -> str | None:
    """Return an attribute of this process's `sys`, as its text."""
    return getattr(sys, name, None)
