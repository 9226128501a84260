"""The curriculum advances: alpha by epoch, and what trains in each stage."""

from pathlib import Path

import pytest
import torch

from data.command import make_config
from data.errors import InputError
from fusion.blocks import build_block
from fusion.config import TrainConfig
from fusion.curriculum import PAPER_STAGES, Stage
from fusion.model import FusionModel
from fusion.towers import find_tower, load_image_tower, load_text_tower


def build_model(image: str = "tiny-image") -> FusionModel:
    image_tower = load_image_tower(find_tower(image, modality="image"), pretrained=False)
    text_tower = load_text_tower(find_tower("tiny-text", modality="text"), texts=["small cells"], pretrained=False)
    block = build_block("prmf-paper", image_dim=image_tower.dim, text_dim=text_tower.dim, classes=3)
    return FusionModel(image_tower=image_tower, text_tower=text_tower, block=block)


def test_alpha_of_the_paper_is_flat_then_climbs_every_ten_epochs_then_one() -> None:
    first, second, third = PAPER_STAGES
    assert {first.alpha(epoch) for epoch in range(50)} == {0.3}
    assert [second.alpha(epoch) for epoch in range(0, 50, 10)] == [0.3, 0.44, 0.58, 0.72, 0.86]
    assert [second.alpha(epoch) for epoch in (9, 19, 49, 50, 500)] == [0.3, 0.44, 0.86, 1.0, 1.0]
    assert {third.alpha(epoch) for epoch in range(50)} == {1.0}


def test_the_tiny_preset_has_the_three_stages_and_reaches_one() -> None:
    config = make_config(TrainConfig, name="train", config="tiny", manifest=Path("m"), out=Path("o"))
    assert [stage.freeze for stage in config.stages] == [("text",), (), ("image", "text")]
    assert config.stages[0].alpha(0) < config.stages[1].alpha(config.stages[1].epochs - 1) < 1.0
    assert config.stages[2].alpha(0) == 1.0


@pytest.mark.parametrize(
    ("stage", "image_trains", "text_trains"),
    [(PAPER_STAGES[0], True, False), (PAPER_STAGES[1], True, True), (PAPER_STAGES[2], False, False)],
    ids=["image", "joint", "fusion"],
)
def test_a_stage_trains_what_it_says_and_keeps_the_rest_still(
    stage: Stage, image_trains: bool, text_trains: bool
) -> None:
    model = build_model()
    model.freeze(PAPER_STAGES[2])
    model.freeze(stage)
    for tower, trains in ((model.image_tower, image_trains), (model.text_tower, text_trains)):
        assert {parameter.requires_grad for parameter in tower.parameters()} == {trains}
        assert {module.training for module in tower.modules()} == {trains}
    assert all(parameter.requires_grad for parameter in model.block.parameters()) and model.block.training


def test_a_frozen_tower_keeps_its_statistics_through_switches_of_mode() -> None:
    image = load_image_tower(find_tower("timm:resnet10t", modality="image"), pretrained=False)
    text = load_text_tower(find_tower("tiny-text", modality="text"), texts=["small cells"], pretrained=False)
    block = build_block("prmf", image_dim=image.dim, text_dim=text.dim, classes=3)
    model = FusionModel(image_tower=image, text_tower=text, block=block)
    model.freeze(Stage(name="fusion", epochs=1, freeze=("image",)))
    model.eval()
    model.train()
    before = {name: buffer.clone() for name, buffer in image.named_buffers()}
    image(torch.rand(4, 3, 64, 64))
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(before[name], buffer) for name, buffer in image.named_buffers())


def test_the_optimiser_has_one_group_per_part_whatever_is_frozen() -> None:
    model = build_model()
    sizes = []
    for stage in PAPER_STAGES:
        model.freeze(stage)
        groups = model.parameter_groups()
        sizes.append([len(group["params"]) for group in groups])  # type: ignore[arg-type]
        assert [group["part"] for group in groups] == ["image", "text", "block"]
    assert sizes[0] == sizes[1] == sizes[2]


def test_an_alpha_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(InputError, match="stage joint: alpha must lie between 0 and 1"):
        Stage(name="joint", epochs=1, alpha_from=0.3, alpha_to=1.4)


def test_a_stage_may_freeze_towers_only() -> None:
    with pytest.raises(InputError, match="freeze may name image and text, not gate"):
        Stage(name="joint", epochs=1, freeze=("gate",))  # type: ignore[arg-type]


def test_the_best_epoch_is_kept_without_the_frozen_towers_and_comes_back_whole() -> None:
    model = build_model()
    model.freeze(Stage(name="image", epochs=1, freeze=("text",)))
    kept, before = model.unfrozen_state(), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert {name.partition(".")[0] for name in kept} == {"image_tower", "block"}
    with torch.no_grad():
        for parameter in [*model.image_tower.parameters(), *model.block.parameters()]:
            parameter.add_(1)
    model.load_unfrozen(kept)
    assert all(before[name].equal(tensor) for name, tensor in model.state_dict().items())
