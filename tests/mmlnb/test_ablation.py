"""An ablation from one command: its table, and how it goes on after it was cut off."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from coloured_patches import write_coloured, write_short_curriculum

import fusion.fit
from data.errors import InputError
from data.manifest import read_manifest, write_manifest
from fusion.weighted_measures import HIGHER_IS_BETTER
from mmlnb.ablation import ablate
from mmlnb.commands import COMMANDS
from mmlnb.config import AblateConfig, ArmName

ARMS = ("image-only", "finetuned-text", "crossfitted-text", "prmf")
OUTPUTS = ("ablation.csv", "ablation.json", "ablation.png")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AblateConfig:
    folder = tmp_path_factory.mktemp("ablation")
    paths = write_coloured(folder / "data")
    return AblateConfig(
        manifest=paths["manifest"],
        crossfitted_captions=paths["crossfitted"],
        out=folder / "out",
        arms=ARMS,
        seeds=(1, 2),
        train_config=str(write_short_curriculum(folder / "short.yaml")),
    )


@pytest.fixture(scope="module")
def finished(config: AblateConfig) -> Path:
    return ablate(config)


@pytest.fixture
def copied(config: AblateConfig, finished: Path, tmp_path: Path) -> AblateConfig:
    """Settings of the same ablation with a copy of its folder, to break."""
    shutil.copytree(finished, tmp_path / "out")
    return replace(config, out=tmp_path / "out")


def without_costs(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "ablation.csv").drop(columns=["train_seconds", "evaluate_seconds", "resumed"])


def test_the_table_has_a_row_for_every_arm_seed_and_level(finished: Path) -> None:
    table = pd.read_csv(finished / "ablation.csv")
    assert list(table["arm"].unique()) == ["image-only", "crossfitted-text", "prmf"]
    assert (table.groupby(["arm", "seed"]).size() == 4).all()
    assert set(table["vote"].dropna()) == {"mean", "hard_vote", "tissue_weighted"}
    assert set(HIGHER_IS_BETTER) <= set(table)
    patches = table[table["level"] == "patch"]
    assert (patches["rows"] == 24).all() and (table[table["level"] == "slide"]["rows"] == 6).all()
    assert (table["patients"] == 6).all()
    assert table["accuracy"].between(0, 1).all()
    assert (table["train_seconds"] > 0).all() and (table["evaluate_seconds"] > 0).all()
    assert not table["resumed"].any()


def test_the_figures_are_those_of_the_evaluations(finished: Path) -> None:
    table = pd.read_csv(finished / "ablation.csv").fillna({"vote": "patches"}).set_index(["arm", "vote", "seed"])
    for folder, arm in (("image-only", "image-only"), ("prmf-crossfitted-text", "prmf")):
        for seed in (1, 2):
            metrics = json.loads((finished / "runs" / folder / f"seed-{seed}" / "evaluate/metrics.json").read_text())
            fused = metrics["fused"]
            for name in ("balanced_accuracy", "auroc"):
                assert table.loc[(arm, "patches", seed), name] == pytest.approx(fused[name])
            voted = metrics["slides"]["aggregations"]["hard_vote"]["fused"]
            assert table.loc[(arm, "hard_vote", seed), "accuracy"] == pytest.approx(voted["accuracy"])


def test_means_differences_and_what_is_shared_or_left_out_are_said(finished: Path) -> None:
    content = json.loads((finished / "ablation.json").read_text())
    table = pd.read_csv(finished / "ablation.csv")
    means = table[table["level"] == "patch"].groupby("arm")["balanced_accuracy"].mean()
    arms = content["arms"]
    for arm, mean in means.items():
        measured = arms[arm]["patches"]["measures"]["balanced_accuracy"]
        assert measured["mean"] == pytest.approx(mean)
        low, high = measured["interval"]
        assert low <= mean <= high
        if arm != "image-only":
            assert measured["difference"] == pytest.approx(mean - means["image-only"], abs=1e-9)
    assert arms["image-only"]["patches"]["measures"]["balanced_accuracy"]["difference"] is None
    assert (arms["prmf"]["same_runs_as"], arms["image-only"]["same_runs_as"]) == ("crossfitted-text", None)
    assert arms["prmf"]["patches"] == arms["crossfitted-text"]["patches"]
    assert set(arms["prmf"]["slides"]) == {"mean", "hard_vote", "tissue_weighted"}
    assert content["left_out"] == {"finetuned-text": "--captions was not given"}
    assert (content["text"], content["seeds"]) == ("crossfitted", [1, 2])
    assert "left out: finetuned-text, since --captions was not given" in content["notes"]
    assert "2 seeds say little; give 3 or more" in content["notes"]
    assert (finished / "ablation.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_ablation_trains_nothing_again(
    copied: AblateConfig, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {path: path.stat().st_mtime_ns for path in (copied.out / "runs").rglob("*") if path.is_file()}
    for name in OUTPUTS:
        (copied.out / name).unlink()
    ablate(copied)
    assert {path: path.stat().st_mtime_ns for path in (copied.out / "runs").rglob("*") if path.is_file()} == times
    for name in OUTPUTS:
        assert (copied.out / name).read_bytes() == (finished / name).read_bytes()
    shown = capsys.readouterr()
    assert "finetuned-text is left out, since --captions was not given" in shown.out + shown.err


def test_an_arm_that_was_deleted_is_run_again_alone_and_comes_out_the_same(
    copied: AblateConfig, finished: Path
) -> None:
    shutil.rmtree(copied.out / "runs" / "image-only" / "seed-2")
    kept = copied.out / "runs" / "image-only" / "seed-1" / "train" / "model" / "fusion.safetensors"
    before = kept.stat().st_mtime_ns
    ablate(copied)
    assert without_costs(copied.out).equals(without_costs(finished))
    assert kept.stat().st_mtime_ns == before


def test_an_evaluation_that_was_cut_off_is_done_again_without_training(copied: AblateConfig, finished: Path) -> None:
    run = copied.out / "runs" / "image-only" / "seed-1"
    (run / "evaluate" / "metrics.json").unlink()
    weights = run / "train" / "model" / "fusion.safetensors"
    before, seconds = weights.stat().st_mtime_ns, json.loads((run / "cost.json").read_text())["train_seconds"]
    ablate(copied)
    assert without_costs(copied.out).equals(without_costs(finished))
    assert weights.stat().st_mtime_ns == before
    assert json.loads((run / "cost.json").read_text())["train_seconds"] == seconds


def test_a_training_that_was_killed_goes_on_and_its_seconds_are_marked(
    copied: AblateConfig, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied.out / "runs" / "prmf-crossfitted-text" / "seed-1"
    shutil.rmtree(run)
    calls = []

    def killed(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    real = fusion.fit.validate
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(fusion.fit, "validate", killed)
        ablate(copied)
    assert not (run / "cost.json").exists()
    ablate(copied)
    assert without_costs(copied.out).equals(without_costs(finished))
    table = pd.read_csv(copied.out / "ablation.csv")
    assert set(table.loc[table["resumed"], "arm"]) == {"crossfitted-text", "prmf"}
    assert set(table.loc[table["resumed"], "seed"]) == {1}
    notes = json.loads((copied.out / "ablation.json").read_text())["notes"]
    assert any("a run was resumed: crossfitted-text, prmf" in note for note in notes)


def test_arms_and_seeds_can_be_left_away_later(copied: AblateConfig) -> None:
    ablate(replace(copied, arms=("crossfitted-text", "prmf"), seeds=(2,)))
    content = json.loads((copied.out / "ablation.json").read_text())
    assert list(content["arms"]) == ["crossfitted-text", "prmf"]
    assert "no differences, since image-only is not among the arms" in content["notes"]
    assert content["arms"]["prmf"]["patches"]["measures"]["accuracy"]["difference"] is None


def test_other_settings_captions_or_rows_are_refused_before_anything_is_trained(
    copied: AblateConfig, tmp_path: Path
) -> None:
    (tmp_path / "longer.yaml").write_text(Path(copied.train_config).read_text().replace("epochs: 2", "epochs: 3"))
    with pytest.raises(InputError, match="holds a run with other settings"):
        ablate(replace(copied, train_config=str(tmp_path / "longer.yaml")))
    other = copied.manifest.parent / "captions-base"
    with pytest.raises(InputError, match=r"prmf-crossfitted-text/seed-1/train: holds another run \(captions differ\)"):
        ablate(replace(copied, crossfitted_captions=other))
    empty = tmp_path / "captions"
    empty.mkdir()
    with pytest.raises(InputError, match=str(empty)):
        ablate(replace(copied, crossfitted_captions=empty))
    with pytest.raises(InputError, match="no such manifest"):
        ablate(replace(copied, manifest=tmp_path / "absent.parquet"))


def test_slides_that_are_not_counted_are_said(config: AblateConfig, finished: Path, tmp_path: Path) -> None:
    frame = read_manifest(config.manifest)
    frame["image"] = [str((config.manifest.parent / image).resolve()) for image in frame["image"]]
    tested = frame["split"] == "test"
    # One slide of two patients among six of one each.
    shared = frame["slide_id"].isin(["test-D-0.svs", "test-D-1.svs"])
    frame.loc[tested & shared, "slide_id"] = "both.svs"
    write_manifest(frame, tmp_path / "patches.parquet")
    out = ablate(
        replace(config, manifest=tmp_path / "patches.parquet", out=tmp_path / "out", arms=("image-only",), seeds=(1,))
    )
    content = json.loads((out / "ablation.json").read_text())
    assert content["arms"]["image-only"]["slides"]["mean"]["rows"] == 4
    assert "1 slides are not counted: several patients" in content["notes"]


def test_patches_without_slides_are_said_and_image_only_needs_no_captions(
    config: AblateConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_coloured(tmp_path / "data", named_slides=False)
    status = COMMANDS["ablate"].main(
        [
            *("--manifest", str(paths["manifest"]), "--out", str(tmp_path / "out")),
            *("--arms", "[image-only,prmf]", "--seeds", "[5]", "--train-config", config.train_config),
        ]
    )
    assert status == 0
    shown = capsys.readouterr()
    assert "note: no slides, since no patch names its slide" in shown.out + shown.err
    content = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert list(content["arms"]) == ["image-only"]
    assert content["arms"]["image-only"]["slides"] is None
    assert content["left_out"] == {"prmf": "no captions were given"}
    assert set(pd.read_csv(tmp_path / "out" / "ablation.csv")["level"]) == {"patch"}


@pytest.mark.slow
def test_with_all_captions_every_arm_is_trained_as_its_name_says(config: AblateConfig, tmp_path: Path) -> None:
    folder = config.manifest.parent
    captions = {"base_captions": folder / "captions-base", "captions": folder / "captions-finetuned"}
    arms = get_args(ArmName)
    out = ablate(replace(config, **captions, arms=arms, seeds=(1,), out=tmp_path / "out"))
    content = json.loads((out / "ablation.json").read_text())
    assert (tuple(content["arms"]), content["left_out"]) == (arms, {})
    assert {arm for arm, one in content["arms"].items() if one["same_runs_as"]} == {"prmf"}
    runs = {path.name: path / "seed-1" / "train" for path in (out / "runs").iterdir()}
    assert len(runs) == 8
    stages = {name: list(pd.read_csv(run / "history.csv")["stage"].unique()) for name, run in runs.items()}
    assert stages.pop("prmf-crossfitted-text-no-curriculum") == ["all at once"]
    assert set(map(tuple, stages.values())) == {("image", "joint", "fusion")}
    blocks = {name: json.loads((run / "model" / "fusion.json").read_text())["block"] for name, run in runs.items()}
    assert set(blocks.values()) == {"image-only", "text-only", "concatenation", "prmf-paper", "prmf"}
    assert all(name.startswith(block) for name, block in blocks.items())
    # Each text is another one: the same block on three of them gives three models.
    by_text = [content["arms"][f"{text}-text"]["patches"]["measures"] for text in ("base", "finetuned", "crossfitted")]
    assert len({measures["log_loss"]["mean"] for measures in by_text}) == 3
