"""One prompt for training and captioning."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.errors import InputError
from data.taxonomy import load_taxonomy
from vlm_finetune.prompt import PatchPrompt

PROMPT = PatchPrompt(system="You are a pathologist.", question="What is seen?", image_px=56)


def test_the_tissue_of_the_taxonomy_fills_the_question() -> None:
    taxonomy = load_taxonomy("neuroblastic-tumours")
    prompt = PatchPrompt.fill(system="", question="What does this {tissue} show?", image_px=56, taxonomy=taxonomy)
    assert prompt.question == "What does this neuroblastic tumour show?"


@pytest.mark.parametrize("change", [{"system": "x"}, {"question": "x"}, {"image_px": 84}])
def test_every_part_of_the_prompt_changes_its_key(change: dict[str, object]) -> None:
    assert replace(PROMPT, **change).key != PROMPT.key  # type: ignore[arg-type]


def test_a_saved_prompt_comes_back_with_the_same_key(tmp_path: Path) -> None:
    PROMPT.save(tmp_path)
    assert PatchPrompt.load(tmp_path).key == PROMPT.key


def test_a_missing_or_broken_prompt_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"prompt\.json"):
        PatchPrompt.load(tmp_path)
    (tmp_path / "prompt.json").write_text("[]")
    with pytest.raises(InputError, match=r"prompt\.json"):
        PatchPrompt.load(tmp_path)


def test_the_image_comes_before_the_question() -> None:
    content = PROMPT.messages()[-1]["content"]
    assert [part["type"] for part in content] == ["image", "text"]


def test_resizing_averages_rather_than_skips_pixels() -> None:
    stripes = np.zeros((448, 448, 3), dtype=np.uint8)
    stripes[::2] = 255
    small = PROMPT.resize(stripes)
    assert small.shape == (56, 56, 3)
    # Without a low-pass filter the stripes would come out black or white.
    assert np.all(np.abs(small.astype(int) - 127) < 20)
