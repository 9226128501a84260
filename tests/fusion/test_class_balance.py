"""Rare classes: drawn as often, weighed as much or shifted as far as asked for, and the history holds true means."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from data.command import parse_config
from data.errors import InputError
from data.manifest import read_manifest, write_manifest
from fusion.config import TrainConfig
from fusion.curriculum import Stage
from fusion.epoch_plan import EpochPlan, plan_epoch
from fusion.fit import fit_epoch
from fusion.frozen import encode_frozen
from fusion.run_folder import Progress
from fusion.text_noise import TextNoise
from fusion.train import setup, train

LABELS = np.repeat([0, 1, 3], [2700, 270, 30])


@pytest.fixture(scope="module")
def uneven(dataset: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of the coloured patches with 12, 6 and 2 training rows of the classes."""
    manifest, _ = dataset
    frame = read_manifest(manifest)
    frame["image"] = [str((manifest.parent / image).resolve()) for image in frame["image"]]
    number = frame.groupby(["split", "label"]).cumcount()
    keep = number < frame["label"].map({"UD": 12, "PD": 6, "D": 2})
    path = tmp_path_factory.mktemp("uneven") / "patches.parquet"
    write_manifest(frame[keep | (frame["split"] != "train")], path)
    return path


def plan(epoch: int, *, sampler: bool) -> EpochPlan:
    noise = TextNoise(swap_across=0.5)
    return plan_epoch(LABELS, seed=1, epoch=epoch, batch_size=32, noise=noise, stain_jitter=0.1, sampler=sampler)


def test_the_sampler_draws_all_classes_equally_often_and_rows_again() -> None:
    drawn = plan(0, sampler=True)
    assert np.sort(np.concatenate(drawn.batches)).tolist() == list(range(len(LABELS)))
    shares = np.bincount(LABELS[drawn.rows]) / len(LABELS)
    assert shares == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.03)
    # Every one of the thirty rare rows comes about thirty times, each time with changes of its own.
    rare = np.flatnonzero(drawn.rows == len(LABELS) - 1)
    assert 10 < len(rare) < 60
    assert len({tuple(row.tolist()) for row in drawn.augment.scale[torch.from_numpy(rare)]}) == len(rare)


def test_every_epoch_draws_anew_and_a_repeated_one_the_same() -> None:
    first, again, next_one = plan(0, sampler=True), plan(0, sampler=True), plan(1, sampler=True)
    assert (first.rows == again.rows).all() and (first.sentence_seeds == again.sentence_seeds).all()
    assert (first.rows != next_one.rows).any()


def test_text_of_another_class_is_of_another_class_for_drawn_rows_too() -> None:
    drawn = plan(0, sampler=True)
    swapped = drawn.texts.source != np.arange(len(LABELS))
    labels = LABELS[drawn.rows]
    assert swapped.mean() == pytest.approx(0.5, abs=0.05)
    assert (labels[drawn.texts.source[swapped]] != labels[swapped]).all()


def test_without_the_sampler_every_row_comes_once() -> None:
    drawn = plan(0, sampler=False)
    assert np.sort(drawn.rows[np.concatenate(drawn.batches)]).tolist() == list(range(len(LABELS)))


@pytest.mark.parametrize("balance", ["none", "weighted", "balanced-softmax", "sampler"])
def test_the_history_holds_means_over_the_rows_that_were_drawn(
    balance: str, uneven: Path, make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    stage = Stage(name="fusion", epochs=1, freeze=("image", "text"), learning_rate=1e-12)
    run = setup(make_config(tmp_path / "run", manifest=uneven, stages=(stage,), balance=balance, block="prmf-paper"))
    assert run is not None
    run.model.freeze(stage)
    encode_frozen(run, stage)
    rows = run.patches.rows("train")
    labels = torch.from_numpy(run.patches.labels[rows])
    counts = torch.tensor([12.0, 6.0, 2.0])
    with torch.no_grad():
        logits = run.model.eval()(**next(run.feed.batches([rows])).inputs).image
    losses = cross_entropy(logits + counts.log() if balance == "balanced-softmax" else logits, labels, reduction="none")
    expected = {
        "none": losses.mean(),
        "weighted": torch.stack([losses[labels == label].mean() for label in range(3)]).mean(),
        "balanced-softmax": losses.mean(),
        "sampler": losses[torch.from_numpy(run.plan(0).rows)].mean(),
    }[balance]
    found = fit_epoch(run, run.model, stage, progress=Progress(), bar=tqdm(disable=True))
    assert found["loss_image"] == pytest.approx(expected.item(), abs=2e-6)


@pytest.mark.parametrize("balance", ["balanced-softmax", "sampler"])
def test_a_run_that_was_cut_off_repeats_the_draws(
    balance: str,
    uneven: Path,
    make_config: Callable[..., TrainConfig],
    train_cut_off: Callable[[TrainConfig, int], None],
    tmp_path: Path,
) -> None:
    stages = (Stage(name="image", epochs=1, freeze=("text",)), Stage(name="joint", epochs=2))
    configs = [
        make_config(tmp_path / name, manifest=uneven, stages=stages, balance=balance, augment=("image", "text"))
        for name in ("whole", "cut")
    ]
    train_cut_off(configs[1], 2)
    whole, cut = (train(config) / "model" / "fusion.safetensors" for config in configs)
    assert whole.read_bytes() == cut.read_bytes()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"balance": True}, "balance: True is none of none, weighted, balanced-softmax, sampler; what was true is now"),
        ({"augment": True}, r"augment: True is no list of image and text; what was true is now \[image\]"),
        ({"augment": ("gate",)}, "augment: .*gate.* is no list of image and text"),
        ({"augment": "image"}, "augment: image is no list of image and text"),
    ],
)
def test_the_switches_of_before_are_refused_with_what_to_write(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TrainConfig(manifest=Path("m"), out=Path("o"), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("balance: true", "--balance: True is none of 'none', 'weighted', 'balanced-softmax', 'sampler'"),
        ("augment: true", r"--augment: True is no list; write it as \[image,text\]"),
    ],
)
def test_a_switch_of_before_in_a_file_is_refused_in_one_line(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"manifest: m\nout: o\n{line}\n")
    for arguments in (
        ["--config", f"{tmp_path}/config.yaml"],
        ["--manifest=m", "--out=o", f"--{line.replace(': ', '=')}"],
    ):
        with pytest.raises(InputError, match=f"(?i){words}") as caught:
            parse_config(TrainConfig, arguments, name="train")
        assert "\n" not in str(caught.value)
