"""The list of encoders says what a user must know before choosing one."""

from pathlib import Path

import pytest

from fusion.towers import TOWERS
from mmlnb.cli import main


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[tuple[str, str], str]:
    assert main(["encoders", *arguments]) == 0
    table = capsys.readouterr().out.split("\n\n")[0].splitlines()[1:]
    return {(line.split()[0], line.split()[1]): line for line in table}


def test_every_encoder_has_a_line_with_its_numbers_and_its_licence(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = listed(capsys)
    assert set(lines) == {(record.name, record.modality) for record in TOWERS}
    for record in TOWERS:
        line = lines[record.name, record.modality]
        assert f" {record.dim} " in line and record.licence in line and record.loader in line
    gigapath = lines["prov-gigapath", "image"].split()
    assert gigapath[2:8] == ["timm", "1536", "224", "of", "256", "px"] and gigapath[8] == "0.5"
    assert "77 tokens" in lines["plip", "text"]
    assert "accepted licence, its own code" in lines["hibou-l", "image"]
    assert "accepted licence, its own package" in lines["conch", "image"]
    assert "accepted licence" not in lines["plip", "image"]


def test_one_modality_is_listed_alone(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {modality for _, modality in listed(capsys, "--modality", "text")} == {"text"}


def test_weights_that_are_here_are_told_from_those_that_are_not(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = cache / "models--vinid--plip"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    lines = listed(capsys)
    assert lines["plip", "image"].endswith("  here") and lines["plip", "text"].endswith("  here")
    assert lines["uni", "image"].endswith("  not here")
    assert lines["tiny-image", "image"].endswith("  none needed")
