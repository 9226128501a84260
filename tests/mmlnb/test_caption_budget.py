"""How many patches are described is stated in words that are checked before any slide is opened."""

from pathlib import Path

import pytest

from data.command import parse_config
from data.errors import InputError
from mmlnb.caption_budget import CaptionBudget, parse_caption
from mmlnb.config import InferConfig


@pytest.mark.parametrize(
    ("given", "patches", "described"),
    [
        ("budget=5", 20, 5),
        ("budget=50", 20, 20),
        ("fraction=0.1", 70, 7),
        ("fraction=0.1", 71, 8),
        ("fraction=0.001", 20, 1),
        ("fraction=1", 20, 20),
    ],
)
def test_a_budget_is_a_number_of_patches_of_the_slide(given: str, patches: int, described: int) -> None:
    budget = parse_caption(given)
    assert budget is not None
    assert budget.count(patches) == described
    assert str(budget) == given


def test_all_and_none_are_no_choice() -> None:
    assert parse_caption("all") is None
    assert parse_caption("none") is None
    assert CaptionBudget(fraction=0.1) == parse_caption("fraction=0.10")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("some", "give all, none, budget=N or fraction=F"),
        ("budget", "give all, none, budget=N or fraction=F"),
        ("budget=0", "give budget=1 or more, or none"),
        ("budget=-3", "give budget=1 or more, or none"),
        ("budget=2.5", "2.5 is not a whole number"),
        ("fraction=0", "give a fraction above 0 and up to 1, or none"),
        ("fraction=10", "give a fraction above 0 and up to 1, or none"),
        ("fraction=nan", "give a fraction above 0 and up to 1, or none"),
        ("fraction=tenth", "tenth is not a number"),
    ],
)
def test_a_bad_budget_is_refused_in_one_line_before_any_slide(given: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(InferConfig, ["slides", "out", "--caption", given], name="infer", positional=("slides", "out"))
    assert str(caught.value).startswith(f"--caption {given}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--choose", "best"], "--choose: best is none of 'mix', 'random', 'uncertainty', 'diversity'"),
        (["--borrow", "all"], "--borrow: all is none of 'none', 'nearest'"),
        (["--borrow-similarity", "2"], "--borrow_similarity 2.0: give -1 to 1"),
    ],
)
def test_a_bad_way_to_choose_or_borrow_is_refused_in_one_line(settings: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(InferConfig, ["slides", "out", *settings], name="infer", positional=("slides", "out"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_forms_are_taken_from_the_command_line_and_from_python() -> None:
    command = ["slides", "out", "--caption", "fraction=0.1", "--choose", "diversity"]
    assert parse_config(InferConfig, command, name="infer", positional=("slides", "out")) == InferConfig(
        slides=Path("slides"), out=Path("out"), caption="fraction=0.1", choose="diversity"
    )
