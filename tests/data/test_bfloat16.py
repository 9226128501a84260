"""Which devices multiply in bfloat16."""

import pytest
import torch

from data.bfloat16 import multiplies_bf16


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "arm_bf16"])
@pytest.mark.parametrize("native", [True, False])
def test_a_cpu_multiplies_in_bfloat16_only_where_it_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, name: str, native: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: native})
    assert multiplies_bf16(torch.device("cpu")) is native


def test_of_the_gpus_those_of_cuda_do() -> None:
    assert not multiplies_bf16(torch.device("mps"))
    assert multiplies_bf16(torch.device("cuda"))
