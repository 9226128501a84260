"""The checks of pins and files find what is known to be bad, and do not take silence for good."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CI = ROOT / ".ci"
pytestmark = pytest.mark.skipif(not CI.is_dir(), reason="needs a checkout: .ci is not packed")


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"ci_{name}", CI / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The audit with an empty list of advisories."""
    module = _load("audit")
    monkeypatch.setattr(module, "ADVISORIES", tmp_path / "advisories.txt")
    module.ADVISORIES.write_text("# none\n")
    return module


def answer(
    monkeypatch: pytest.MonkeyPatch, *, known: list[str], pins: dict[str, list[str]], error: str = ""
) -> list[list[str]]:
    """Let pip-audit answer so for the known release and for the pins; returns the commands as they come."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        vulns = {"jinja2": known} if "known.txt" in command[command.index("--requirement") + 1] else pins
        content = [{"name": name, "version": "1", "vulns": [{"id": one} for one in ids]} for name, ids in vulns.items()]
        return subprocess.CompletedProcess(command, 1, "" if error else json.dumps({"dependencies": content}), error)

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_a_known_vulnerability_of_a_pin_fails(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, known=["PYSEC-1"], pins={"pillow": ["PYSEC-2"], "numpy": []})
    assert audit.main() == 1
    assert "pillow 1: PYSEC-2" in capsys.readouterr().err


def test_an_audit_that_finds_nothing_passes(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, known=["PYSEC-1"], pins={"numpy": []})
    assert audit.main() == 0
    assert "no known vulnerability" in capsys.readouterr().out


@pytest.mark.parametrize("error", ["", "ERROR: Could not connect to the service\nTip: your network may be blocking it"])
def test_a_service_that_cannot_be_asked_or_knows_nothing_is_said_and_does_not_fail(
    error: str, audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, known=[], pins={}, error=error)
    assert audit.main() == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("audit: NOT MADE")


def test_another_failure_of_the_audit_fails(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, known=[], pins={}, error="ERROR: invalid requirements input")
    assert audit.main() == 1
    assert "invalid requirements" in capsys.readouterr().err


def test_an_advisory_is_set_aside_only_with_a_reason(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = answer(monkeypatch, known=["PYSEC-1"], pins={"numpy": []})
    audit.ADVISORIES.write_text("PYSEC-3 of a part that is not used here\n")
    assert audit.main() == 0
    assert asked[-1][-2:] == ["--ignore-vuln", "PYSEC-3"]
    audit.ADVISORIES.write_text("PYSEC-3\n")
    assert audit.main() == 1
    assert "PYSEC-3 has no reason" in capsys.readouterr().err


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with a harmless file and this project's baseline."""
    pytest.importorskip("detect_secrets", reason="needs detect-secrets, of the extra `dev`")
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    baseline = json.loads((ROOT / ".secrets.baseline").read_text())
    (tmp_path / ".secrets.baseline").write_text(json.dumps(baseline | {"results": {}}))
    (tmp_path / "a.py").write_text("KEY = read_key()\n")
    subprocess.run(["git", "add", "."], check=True)
    return tmp_path


def test_a_planted_key_is_found_where_it_is_tracked(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = _load("secret_scan")
    assert scan.main() == 0
    # In two parts, so that this file is not found itself.
    (repository / "b.py").write_text('key = "AKIA' + 'ZZ5EXAMPL7Q2WERT"\n')
    assert scan.main() == 0
    subprocess.run(["git", "add", "b.py"], check=True)
    capsys.readouterr()
    assert scan.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("b.py:1: AWS Access Key") and "ZZ5EXAMPL" not in said


def test_a_place_in_the_baseline_passes_only_when_it_was_judged_harmless(repository: Path) -> None:
    scan = _load("secret_scan")
    (repository / "b.py").write_text('key = "AKIA' + 'ZZ5EXAMPL7Q2WERT"\n')
    subprocess.run(["git", "add", "b.py"], check=True)
    made = subprocess.run(
        [sys.executable, "-m", "detect_secrets", "scan", "b.py"], capture_output=True, text=True, check=True
    )
    baseline = json.loads(made.stdout)
    file = repository / ".secrets.baseline"
    file.write_text(json.dumps(baseline))
    assert scan.main() == 1
    for places in baseline["results"].values():
        for one in places:
            one["is_secret"] = False
    file.write_text(json.dumps(baseline))
    assert scan.main() == 0
    # Further down in the file it is still the same.
    (repository / "b.py").write_text("\n\n" + (repository / "b.py").read_text())
    assert scan.main() == 0


def test_without_a_checkout_the_scan_says_that_it_was_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert _load("secret_scan").main() == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("secret scan: NOT MADE")
