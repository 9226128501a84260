"""One meaning of every device name, on machines that are played here and on this one."""

from collections.abc import Callable

import pytest
import torch

from data.devices import choose_device, choose_training_device
from data.errors import InputError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the machine have so many GPUs, outside `accelerate launch`."""
    for name in ("LOCAL_RANK", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)

    def have(gpus: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return have


def test_auto_is_a_gpu_where_there_is_one(machine: Callable[[int], None]) -> None:
    machine(0)
    assert choose_device("auto") == torch.device("cpu")
    machine(1)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")


def test_each_process_takes_its_own_gpu(machine: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    machine(2)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:1")
    assert choose_device("cuda:0") == torch.device("cuda:0")
    machine(1)
    assert choose_device("auto") == torch.device("cuda")


def test_processes_that_were_launched_on_the_cpu_stay_there(
    machine: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    machine(2)
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize(("name", "gpus"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2), ("mps", 1)])
def test_a_device_that_is_not_here_is_named_with_those_that_are(
    name: str, gpus: int, machine: Callable[[int], None]
) -> None:
    machine(gpus)
    with pytest.raises(InputError, match=f"--device {name}: not on this machine; give auto or cpu"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "cpu:1", "mps:0"])
def test_what_is_no_device_is_named(name: str, machine: Callable[[int], None]) -> None:
    machine(2)
    with pytest.raises(InputError, match=f"--device {name}: not a device"):
        choose_device(name)


def test_training_leaves_the_number_of_the_gpu_to_the_launcher(machine: Callable[[int], None]) -> None:
    machine(2)
    assert choose_training_device("cuda").type == "cuda"
    with pytest.raises(InputError, match="training takes no number"):
        choose_training_device("cuda:1")
