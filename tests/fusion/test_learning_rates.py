"""Every part of the model trains at the learning rate that its stage gives it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.command import config_yaml, parse_config
from data.errors import InputError
from fusion.config import TrainConfig
from fusion.curriculum import Stage


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({}, [1e-4, 1e-4, 1e-4]),
        ({"learning_rate": 1e-3}, [1e-3, 1e-3, 1e-3]),
        ({"text_learning_rate": 1e-5}, [1e-4, 1e-5, 1e-4]),
        ({"learning_rate": 1e-3, "image_learning_rate": 1e-6, "text_learning_rate": 1e-5}, [1e-6, 1e-5, 1e-3]),
    ],
)
def test_a_tower_without_a_rate_takes_the_stages_and_a_stage_without_one_the_runs(
    rates: dict[str, float], expected: list[float]
) -> None:
    stage = Stage(name="joint", epochs=1, **rates)  # type: ignore[arg-type]
    assert [stage.rate(part, default=1e-4) for part in ("image", "text", "block")] == expected


@pytest.mark.parametrize(("schedule", "factor"), [("constant", 1.0), ("cosine", 0.75)])
def test_the_optimiser_steps_at_the_rates_of_the_towers(
    schedule: str,
    factor: float,
    make_config: Callable[..., TrainConfig],
    train_cut_off: Callable[[TrainConfig, int], None],
    tmp_path: Path,
) -> None:
    stage = Stage(name="joint", epochs=2, learning_rate=1e-3, image_learning_rate=1e-4, text_learning_rate=1e-5)
    config = make_config(tmp_path / "run", stages=(stage,), schedule=schedule)
    train_cut_off(config, 1)
    state = torch.load(config.out / "state" / "last.pt", weights_only=True)
    # The last of the epoch's three steps is a third of the stage away from its start: 1/2 + cos(π/3) / 2.
    assert {group["part"]: group["lr"] for group in state["optimizer"]["param_groups"]} == {
        "image": pytest.approx(factor * 1e-4),
        "text": pytest.approx(factor * 1e-5),
        "block": pytest.approx(factor * 1e-3),
    }


def test_a_rate_of_a_frozen_tower_is_refused() -> None:
    with pytest.raises(InputError, match="stage fusion: text_learning_rate has no effect while text is frozen"):
        Stage(name="fusion", epochs=1, freeze=("text",), text_learning_rate=1e-5)


@pytest.mark.parametrize("name", ["learning_rate", "image_learning_rate", "text_learning_rate"])
def test_a_rate_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="stage joint: learning rates must be above 0"):
        Stage(name="joint", epochs=1, **{name: 0.0})  # type: ignore[arg-type]


def test_all_settings_of_a_stage_are_read_back_from_the_resolved_configuration(tmp_path: Path) -> None:
    stage = Stage(name="joint", epochs=9, image_learning_rate=1e-5, text_learning_rate=2e-5, patience=3)
    config = TrainConfig(manifest=Path("m"), out=Path("o"), stages=(stage,), augment=("text",), balance="sampler")
    (tmp_path / "config.yaml").write_text(config_yaml(config))
    assert parse_config(TrainConfig, ["--config", str(tmp_path / "config.yaml")], name="train") == config
