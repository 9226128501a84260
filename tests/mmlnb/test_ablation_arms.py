"""What each arm of an ablation trains, and what becomes of arms without their captions."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from data.command import make_config
from data.errors import InputError
from fusion.config import TrainConfig
from fusion.curriculum import Stage
from mmlnb.ablation_arms import Variant, all_at_once, choose_arms
from mmlnb.config import AblateConfig, ArmName

FOLDERS = {"captions": Path("f"), "base_captions": Path("b"), "crossfitted_captions": Path("c")}


def config(**settings: object) -> AblateConfig:
    return AblateConfig(**{"manifest": Path("m"), "out": Path("o"), **settings})  # type: ignore[arg-type]


def ground() -> TrainConfig:
    return make_config(TrainConfig, name="train", config="tiny", manifest=Path("m"), out=Path("o"))


def test_with_all_captions_every_arm_is_run_and_those_that_name_no_text_get_the_crossfitted_one() -> None:
    arms = choose_arms(config(**FOLDERS))
    assert set(arms.variants) == set(get_args(ArmName))
    assert arms.left_out == {}
    assert arms.variants["base-text"] == Variant("prmf", "base")
    assert arms.variants["finetuned-text"] == Variant("prmf", "finetuned")
    assert arms.variants["image-only"] == Variant("image-only", "none")
    for arm in ("text-only", "concatenation", "prmf-paper", "prmf", "no-curriculum"):
        assert arms.variants[arm].text == "crossfitted"  # type: ignore[index]
    assert arms.variants["prmf"] == arms.variants["crossfitted-text"]


def test_arms_without_captions_are_left_out_with_a_reason() -> None:
    arms = choose_arms(config(captions=Path("f")))
    assert arms.left_out == {
        "base-text": "--base_captions was not given",
        "crossfitted-text": "--crossfitted_captions was not given",
    }
    assert arms.variants["prmf"] == arms.variants["finetuned-text"] == Variant("prmf", "finetuned")
    alone = choose_arms(config())
    assert list(alone.variants) == ["image-only"]
    assert alone.left_out["prmf"] == "no captions were given"
    assert alone.text is None


def test_the_text_of_the_arms_that_name_none_can_be_chosen() -> None:
    arms = choose_arms(config(**FOLDERS, text="base"))
    assert arms.variants["prmf"] == arms.variants["base-text"]
    assert arms.variants["finetuned-text"].text == "finetuned"
    with pytest.raises(InputError, match="--text base: needs --base_captions"):
        choose_arms(config(captions=Path("f"), text="base"))


def test_nothing_to_run_and_repeated_settings_are_errors() -> None:
    with pytest.raises(InputError, match="none of them can be run"):
        choose_arms(config(arms=("prmf",)))
    with pytest.raises(InputError, match=r"--seeds \[1,1\]: give one or more, none of them twice"):
        config(seeds=(1, 1))
    with pytest.raises(InputError, match="--arms"):
        config(arms=())


def test_an_arm_changes_nothing_but_what_it_is_named_for() -> None:
    start = ground()
    prmf = Variant("prmf", "base").settings(start, captions=Path("b"))
    assert prmf == replace(start, captions=Path("b"))
    image = Variant("image-only", "none").settings(start, captions=None)
    assert image == replace(start, block="image-only", text_source="none")
    joined = Variant("concatenation", "base").settings(start, captions=Path("b"))
    assert joined == replace(start, captions=Path("b"), block="concatenation")
    # Hidden and swapped text and the gate's own loss belong to the robust block; the published one knows neither.
    paper = Variant("prmf-paper", "base").settings(start, captions=Path("b"))
    assert start.text_noise.total > 0
    assert (paper.text_noise.total, paper.gate_loss) == (0, 0)
    assert (paper.stages, paper.balance, paper.augment) == (start.stages, start.balance, start.augment)


def test_without_curriculum_everything_trains_from_the_first_epoch_for_as_long() -> None:
    start = ground()
    (stage,) = Variant("prmf", "base", curriculum=False).settings(start, captions=Path("b")).stages
    assert stage.epochs == sum(one.epochs for one in start.stages)
    assert (stage.freeze, stage.alpha(0), stage.alpha(stage.epochs - 1)) == ((), 1.0, 1.0)
    assert stage.learning_rate == start.stages[1].learning_rate
    frozen = all_at_once([Stage(name="a", epochs=3, freeze=("image",)), Stage(name="b", epochs=2, freeze=("text",))])
    assert (frozen.epochs, frozen.learning_rate) == (5, None)


def test_variants_have_folders_of_their_own() -> None:
    arms = choose_arms(config(**FOLDERS))
    different = set(arms.variants.values())
    assert len({variant.name for variant in different}) == len(different) == 8
    assert Variant("prmf", "base", curriculum=False).name == "prmf-base-text-no-curriculum"
