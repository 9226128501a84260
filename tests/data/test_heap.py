"""The allocator keeps large blocks once it is told to."""

import subprocess
import sys

import pytest

CHILD = """
import resource, sys
import torch
from data.heap import keep_large_blocks

def step():
    activations = [torch.empty(40_000_000, dtype=torch.uint8).fill_(1) for _ in range(4)]

if sys.argv[1] == "keep":
    assert keep_large_blocks()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what: str) -> int:
    """Pages that ten steps with four large tensors each fetch from the system."""
    child = subprocess.run([sys.executable, "-c", CHILD, what], capture_output=True, text=True, check=True)
    return int(child.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is what is told")
def test_large_tensors_are_mostly_not_fetched_from_the_system_again() -> None:
    assert faults("keep") * 2 < faults("leave")
