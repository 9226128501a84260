"""A stage with patience ends early, hands on its best epoch, and does so in a run that was cut off, too."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import fusion.fit as fit_module
from data.errors import InputError
from fusion.config import TrainConfig
from fusion.curriculum import Stage
from fusion.early_stopping import end_stage, note_epoch
from fusion.run_folder import Progress
from fusion.train import setup, train
from fusion.validation import Scores, score, validate

MakeConfig = Callable[..., TrainConfig]

# Steps so large that no loss falls for long.
STAGES = (
    Stage(name="image", epochs=20, freeze=("text",), alpha_from=0.3, learning_rate=0.1, patience=2),
    Stage(name="joint", epochs=20, alpha_from=0.3, alpha_step=0.1, alpha_to=1.0, learning_rate=0.05, patience=1),
    Stage(name="fusion", epochs=20, freeze=("image", "text"), learning_rate=0.2, patience=1),
)
RESULTS = ("model/fusion.safetensors", "history.csv", "calibration.json", "run.json")


@pytest.fixture(scope="module")
def stopped(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose stages all ended early."""
    return train(make_config(tmp_path_factory.mktemp("stopped") / "run", stages=STAGES))


def history(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "history.csv")


def ends(run: Path) -> dict[str, tuple[int, int]]:
    """Of each stage the epoch with the lowest validation loss, and the last one."""
    stages = history(run).groupby("stage", sort=False)
    return {
        str(name): (rows.loc[rows["val_stage_loss"].idxmin(), "epoch"], rows["epoch"].max()) for name, rows in stages
    }


def state(run: Path) -> dict[str, Any]:
    return torch.load(run / "state" / "last.pt", weights_only=True)


def test_a_stage_ends_when_its_loss_has_not_fallen_for_patience_epochs(stopped: Path) -> None:
    assert list(history(stopped)["epoch"]) == list(range(1, len(history(stopped)) + 1))
    for stage in STAGES:
        losses = history(stopped).query("stage == @stage.name")["val_stage_loss"].to_numpy()
        assert len(losses) < stage.epochs and stage.patience is not None
        waited = [epoch - int(np.argmin(losses[: epoch + 1])) for epoch in range(len(losses))]
        assert max(waited[:-1]) < stage.patience == waited[-1]


def test_the_history_marks_what_was_kept_of_each_stage(stopped: Path) -> None:
    kept = history(stopped).query("kept")
    best = {name: epoch for name, (epoch, _) in ends(stopped).items()}
    best["fusion"] = json.loads((stopped / "run.json").read_text())["best_epoch"]
    assert dict(zip(kept["stage"], kept["epoch"], strict=True)) == best


def test_the_last_stage_still_keeps_its_best_epoch_by_balanced_accuracy(stopped: Path) -> None:
    last = history(stopped).query("stage == 'fusion'")
    best = last.sort_values(["val_balanced_accuracy", "val_loss"], ascending=[False, True]).iloc[0]
    assert json.loads((stopped / "run.json").read_text())["best_epoch"] == best["epoch"]


def test_the_next_stage_goes_on_from_weights_and_optimiser_of_the_best_epoch(
    stopped: Path, make_config: MakeConfig, train_cut_off: Callable[[TrainConfig, int], None], tmp_path: Path
) -> None:
    best, end = ends(stopped)["image"]
    assert best < end
    states = []
    for epochs in (best, end):
        train_cut_off(make_config(tmp_path / str(epochs), stages=STAGES), epochs)
        states.append(state(tmp_path / str(epochs)))
    at_best, handed_on = states
    assert handed_on["progress"]["stage"] == 1 and handed_on["progress"]["stage_epochs"] == 0
    for name, tensor in at_best["model"].items():
        assert tensor.equal(handed_on["model"][name]), name
    for number, moments in at_best["optimizer"]["state"].items():
        for name, value in moments.items():
            assert value.equal(handed_on["optimizer"]["state"][number][name])


@pytest.mark.parametrize("moment", ["while it waits", "in the stage after it", "in the last stage"])
def test_a_run_cut_off_around_an_early_end_gives_the_same_bytes(
    moment: str,
    stopped: Path,
    make_config: MakeConfig,
    train_cut_off: Callable[[TrainConfig, int], None],
    tmp_path: Path,
) -> None:
    (_, image), (_, joint), (_, fusion) = ends(stopped).values()
    epochs = {"while it waits": image - 1, "in the stage after it": joint - 1, "in the last stage": fusion - 1}
    config = make_config(tmp_path / "run", stages=STAGES)
    train_cut_off(config, epochs[moment])
    train(config)
    for name in RESULTS:
        assert (config.out / name).read_bytes() == (stopped / name).read_bytes(), name


def test_the_progress_of_a_run_cut_off_at_an_early_end_goes_on_to_its_total(
    stopped: Path,
    make_config: MakeConfig,
    train_cut_off: Callable[[TrainConfig, int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bars = []

    class Watched(tqdm):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            self.started = self.n, self.total
            bars.append(self)

    monkeypatch.setattr(fit_module, "tqdm", Watched)
    _, end = ends(stopped)["image"]
    config = make_config(tmp_path / "run", stages=STAGES)
    train_cut_off(config, end)
    train(config)
    steps = 3  # 36 rows in batches of 12
    first, resumed = bars
    assert first.started == (0, 60 * steps)
    assert resumed.started == (end * steps, (end + 40) * steps)
    assert resumed.n == resumed.total == len(history(stopped)) * steps
    assert (config.out / RESULTS[0]).read_bytes() == (stopped / RESULTS[0]).read_bytes()


def test_with_patience_the_best_epoch_goes_on_even_if_the_stage_ran_to_its_end(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.0, 1.0, 2.0, 1.0])

    def scripted(*arguments: Any, **keywords: Any) -> Scores:
        return replace(score(*arguments, **keywords), stage_loss=next(losses))

    monkeypatch.setattr(fit_module, "score", scripted)
    stages = (Stage(name="image", epochs=3, freeze=("text",), patience=3), Stage(name="joint", epochs=1))
    assert list(history(train(make_config(tmp_path / "run", stages=stages)))["kept"]) == [False, True, False, True]


@pytest.mark.parametrize(("block", "image_weight"), [("prmf-paper", 0.2), ("prmf", 1.0)])
def test_the_loss_of_a_stage_is_its_objective_at_its_last_alpha(
    block: str, image_weight: float, make_config: MakeConfig, tmp_path: Path
) -> None:
    run = setup(make_config(tmp_path / "run", block=block))
    assert run is not None
    stage = Stage(name="joint", epochs=4, alpha_from=0.2, alpha_step=0.2, alpha_to=0.9)
    output, truth = validate(run), torch.from_numpy(run.patches.labels[run.patches.rows("val")])
    expected = 0.8 * cross_entropy(output.fused, truth) + image_weight * cross_entropy(output.image, truth)
    found = score(run, output, stage=stage)
    assert found.stage_loss == pytest.approx(expected.item(), abs=1e-5)
    assert found.loss == pytest.approx(cross_entropy(output.fused, truth).item(), abs=1e-5)


def test_a_stage_whose_loss_is_no_number_ends_and_keeps_its_last_epoch() -> None:
    stage, progress = Stage(name="image", epochs=9, patience=2), Progress(epochs=3, history=[{} for _ in range(5)])
    nothing: Any = None
    found = [note_epoch(progress, stage, np.nan, model=nothing, optimizer=nothing, last=False) for _ in range(2)]
    end_stage(progress, model=nothing, optimizer=nothing, last=False)
    assert found == [False, True] and progress.history[4] == {"kept": True} and progress.stage == 1


def test_a_patience_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="stage joint: patience must be 1 or more"):
        Stage(name="joint", epochs=1, patience=0)
