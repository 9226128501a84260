"""The command line answers mistakes with one line and the right status."""

import importlib
import pkgutil

import pytest

import mmlnb
from mmlnb.cli import main
from mmlnb.commands import COMMANDS


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in (
        "synth",
        "prepare",
        "finetune",
        "caption",
        "train",
        "evaluate",
        "compare",
        "ablate",
        "infer",
        "report",
        "demo",
        "doctor",
        "encoders",
        "prefetch",
        "bundle make",
        "bundle pull",
    ):
        assert f"  {name} " in shown


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infre"]) == 2
    assert capsys.readouterr().err == "mmlnb: error: unknown command infre; the nearest is infer (mmlnb --help)\n"


def test_a_command_of_two_words_says_what_may_follow_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "--help"]) == 0
    assert "mmlnb bundle make " in capsys.readouterr().out
    assert main(["bundle", "mkae"]) == 2
    said = "mmlnb: error: give one of mmlnb bundle make, mmlnb bundle push, mmlnb bundle pull, mmlnb bundle convert\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_its_settings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0
    assert f"mmlnb {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_python_function_of_the_same_name(name: str) -> None:
    # A submodule of the same name would take the function's place as soon as it is imported.
    for module in pkgutil.walk_packages(mmlnb.__path__, "mmlnb."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert callable(getattr(mmlnb, name.replace(" ", "_")))


def test_bad_input_to_a_python_function_is_an_input_error(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from data.errors import InputError

    with pytest.raises(InputError, match="holds no bundle"):
        mmlnb.infer(tmp_path, tmp_path / "out", bundle=tmp_path)
