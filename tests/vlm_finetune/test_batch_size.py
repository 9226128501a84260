"""The batch to begin with grows with the free memory and shrinks with what a row takes."""

from types import SimpleNamespace

import psutil
import pytest
import torch

from vlm_finetune.batch_size import fitting_batch, row_bytes
from vlm_finetune.model import find_model, load_base


@pytest.fixture
def model(micro_model: str) -> torch.nn.Module:
    return load_base(find_model(micro_model), dtype=torch.float32)


def test_a_row_takes_its_keys_and_values_at_least(model: torch.nn.Module) -> None:
    text = model.config.get_text_config(decoder=True)
    width = text.hidden_size // text.num_attention_heads
    kept = 2 * text.num_hidden_layers * text.num_key_value_heads * width * 4
    assert row_bytes(model, positions=1100) - row_bytes(model, positions=100) >= 1000 * kept


@pytest.mark.parametrize("rows", [1, 3, 8, 100_000])
def test_the_batch_is_the_power_of_two_that_fits(
    model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    row = row_bytes(model, positions=512 + 96)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=4 * row * rows + 4))
    expected = {1: 1, 3: 2, 8: 8, 100_000: 256}
    assert fitting_batch(model, max_new_tokens=96) == expected[rows]


def test_where_nothing_fits_one_row_is_tried(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=0))
    assert fitting_batch(model, max_new_tokens=96) == 1
