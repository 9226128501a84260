"""One dataclass becomes one command line, and every mistake on it one helpful line."""

from pathlib import Path

import pytest

from data.command import config_yaml, make_config, parse_config, preset_names, run_command
from data.config import PrepareConfig
from data.errors import InputError
from fusion.config import TrainConfig
from mmlnb.config import InferConfig


def parse(*argv: str) -> PrepareConfig:
    return parse_config(PrepareConfig, argv, name="prepare", positional=("source", "out"))


def test_leading_arguments_and_hyphens_are_understood() -> None:
    config = parse("labels.csv", "patches.parquet", "--val-fraction", "0.2", "--seed=7")
    assert config == PrepareConfig(source=Path("labels.csv"), out=Path("patches.parquet"), val_fraction=0.2, seed=7)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a", "b", "--sede", "1"], "unknown setting sede; the nearest is seed"),
        (["a", "b", "--val", "1"], "unknown setting val; the nearest is val_fraction"),
        (["a", "b", "--seed", "many"], "--seed: .*many"),
        (["a", "b", "--descriptions", "maybe"], "--descriptions: .*maybe"),
        (["a"], "--out must be given"),
        (["a", "b", "--config", "nowhere.yaml"], "nowhere.yaml: no such file or preset"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_is_right(argv: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse(*argv)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "switched"),
    [
        (["a", "b", "--hdf5"], True),
        (["--hdf5", "a", "b"], True),
        (["a", "--hdf5", "false", "b"], False),
        (["a", "b", "--hdf5=true"], True),
        (["a", "b"], False),
    ],
)
def test_a_switch_needs_no_value(argv: list[str], switched: bool) -> None:
    config = parse_config(InferConfig, argv, name="infer", positional=("slides", "out"))
    assert (config.slides, config.out, config.hdf5) == (Path("a"), Path("b"), switched)


def test_arguments_without_a_name_may_stand_anywhere_and_too_many_are_named() -> None:
    assert parse("--seed", "1", "a", "b") == parse("a", "--seed=1", "b") == parse("a", "b", "--seed", "1")
    with pytest.raises(InputError, match="unexpected argument c"):
        parse("a", "b", "c")


def test_what_the_system_refuses_is_one_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(config: PrepareConfig) -> None:
        config.out.mkdir()

    assert run_command(write, PrepareConfig, ["--source=x", f"--out={tmp_path}"], name="prepare") == 2
    assert capsys.readouterr().err == f"mmlnb prepare: error: {tmp_path}: File exists\n"


@pytest.mark.parametrize("content", ["source: [", "- source"])
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(content)
    for build in (lambda: parse("--config", str(file)), lambda: make_config(PrepareConfig, name="p", config=str(file))):
        with pytest.raises(InputError) as caught:
            build()
        assert "\n" not in str(caught.value)


def test_options_win_over_the_configuration_file_wherever_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("source: a\nout: b\nseed: 1\ntaxonomy: other\n")
    config = parse("--seed", "2", "--config", str(file))
    assert (config.seed, config.taxonomy, config.source) == (2, "other", Path("a"))


def test_an_unknown_key_in_a_file_names_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("sourc: a\n")
    with pytest.raises(InputError, match="unknown setting sourc; the nearest is source"):
        parse("--config", str(file))


def test_the_resolved_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    config = make_config(TrainConfig, name="train", config="paper", manifest="m.parquet", out="o")
    file = tmp_path / "resolved.yaml"
    file.write_text(config_yaml(config))
    assert parse_config(TrainConfig, ["--config", str(file)], name="train") == config


def test_python_and_command_line_build_the_same_configuration() -> None:
    by_hand = make_config(PrepareConfig, name="prepare", source=Path("a"), out="b", test_fraction=0.3)
    assert by_hand == parse("a", "b", "--test-fraction", "0.3")
    with pytest.raises(InputError, match="unknown setting sead; the nearest is seed"):
        make_config(PrepareConfig, name="prepare", source="a", out="b", sead=1)


def test_the_paper_preset_ships_with_the_package() -> None:
    assert {"paper", "tiny"} <= set(preset_names(TrainConfig, "train"))


def test_bad_input_ends_with_status_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(config: PrepareConfig) -> None:
        raise InputError(f"{config.source}: broken; mend it")

    assert run_command(fail, PrepareConfig, ["--source", "x.csv", "--out", "o"], name="prepare") == 2
    assert capsys.readouterr().err == "mmlnb prepare: error: x.csv: broken; mend it\n"


def test_print_config_shows_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(print, PrepareConfig, ["--source=a", "--out=b", "--print-config"], name="prepare")
    assert "val_fraction: 0.15" in capsys.readouterr().out
