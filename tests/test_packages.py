"""The packages stand where the design puts them, and are found from any working folder."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "data": {"data"},
    "vlm_finetune": {"data", "vlm_finetune"},
    "fusion": {"data", "fusion"},
    "mmlnb": {"data", "vlm_finetune", "fusion", "mmlnb"},
}


def imported(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_upwards_only(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        assert imported(file) & MAY_IMPORT.keys() <= MAY_IMPORT[package], file


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_only_the_taxonomy_knows_the_tumour(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        code = ast.parse(file.read_text(encoding="utf-8"))
        words = {
            node.value.lower()
            for node in ast.walk(code)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        docstrings = {ast.get_docstring(node) for node in ast.walk(code) if isinstance(node, ast.Module)}
        defaults = {"neuroblastoma", "neuroblastic-tumours"}
        for word in words - {str(text).lower() for text in docstrings} - defaults:
            assert not any(term in word for term in ("neuropil", "schwann", "ganglio")), (file, word)


@pytest.mark.parametrize("regular_packages", [False, True], ids=["folders", "packages"])
def test_a_working_folder_with_the_same_names_does_not_get_in_the_way(tmp_path: Path, regular_packages: bool) -> None:
    for name in ("data", "fusion"):
        (tmp_path / name).mkdir()
        if regular_packages and name == "data":
            (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    for command in (["-m", "mmlnb", "prepare", "--help"], ["-m", "vlm_finetune.train", "--help"]):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "--seed" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mmlnb.cli import main; main(['--help']);"
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'datasets', 'jsonargparse'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "infer" in done.stdout
