"""The order of training rows, the precision of a step, and the part of the logits that is computed."""

from types import SimpleNamespace

import pytest
import torch

from vlm_finetune.precision import Precision
from vlm_finetune.step_sampler import StepSampler
from vlm_finetune.trainer import token_loss

LENGTHS = [5, 90, 7, 80, 6, 70, 8, 60, 9, 50, 4]


def test_every_row_comes_once_an_epoch_and_each_step_by_falling_length() -> None:
    sampler = StepSampler(LENGTHS, step_rows=4, seed=1)
    rows = list(sampler)
    assert sorted(rows) == list(range(len(LENGTHS)))
    for start in range(0, len(rows), 4):
        lengths = [LENGTHS[row] for row in rows[start : start + 4]]
        assert lengths == sorted(lengths, reverse=True)


def test_chance_alone_decides_which_rows_share_a_step() -> None:
    def steps(sampler: StepSampler) -> list[set[int]]:
        rows = list(sampler)
        return [set(rows[start : start + 4]) for start in range(0, len(rows), 4)]

    sampler = StepSampler(LENGTHS, step_rows=4, seed=1)
    first = steps(sampler)
    sampler.set_epoch(1)
    assert steps(sampler) != first
    sampler.set_epoch(0)
    assert steps(sampler) == first
    # Other lengths, same steps: nothing is learnt from the long rows first.
    assert steps(StepSampler([1] * len(LENGTHS), step_rows=4, seed=1)) == first


def test_the_loss_of_the_last_logits_is_the_loss_of_all() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 9, 13)
    labels = torch.tensor([[-100] * 5 + [1, 2, 3, 4], [-100] * 5 + [6, 7, -100, -100]])
    whole = token_loss(SimpleNamespace(logits=logits), labels)
    assert token_loss(SimpleNamespace(logits=logits[:, -5:].contiguous()), labels) == pytest.approx(
        float(whole), rel=1e-6
    )


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bfloat16_only_on_a_cpu_that_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    cpu = torch.device("cpu")
    automatic = Precision.of("auto", cpu)
    assert automatic == Precision(torch.float32, torch.bfloat16 if native else torch.float32)
    assert Precision.of("float32", cpu) == Precision(torch.float32, torch.float32)
    assert Precision.of("bfloat16", cpu) == Precision(torch.bfloat16, torch.bfloat16)
