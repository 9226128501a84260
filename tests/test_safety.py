"""No module of the packages reads a pickle, runs what a file says, or lets code of a model run by itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for package in ("data", "vlm_finetune", "fusion", "mmlnb", "benchmarks")
    for path in (ROOT / package).rglob("*.py")
)
FORBIDDEN = {
    *(
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
        "_pickle.load",
        "_pickle.loads",
        "marshal.loads",
        "shelve.open",
    ),
    *("dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads", "joblib.load"),
    *("pandas.read_pickle", "torch.jit.load", "torch.hub.load", "numpy.fromregex"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.unsafe_load_all"),
    *("eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("tarfile.open", "tarfile.TarFile", "zipfile.ZipFile", "shutil.unpack_archive"),
}
ALLOWED = {("data/reader_pool.py", "pickle.loads")}
"""Bytes that the same process has just written, to see whether they can be read."""


def faults(source: str) -> list[str]:
    """What the module `source` must not do, one entry for each place."""
    tree = ast.parse(source)
    names = _names(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            settings = {key.value: value for key, value in pairs if isinstance(key, ast.Constant)}
            found += ["trust_remote_code=True"] if _is(settings.get("trust_remote_code"), True) else []
        if not isinstance(node, ast.Call):
            continue
        called, keywords = _called(node.func, names), {one.arg: one.value for one in node.keywords}
        if called in FORBIDDEN:
            found.append(called)
        if called == "torch.load" and not _is(keywords.get("weights_only"), True):
            found.append("torch.load without weights_only")
        if called == "numpy.load" and not _is(keywords.get("allow_pickle", ast.Constant(False)), False):
            found.append("numpy.load with pickles")
        for name in ("shell", "trust_remote_code"):
            if _is(keywords.get(name), True):
                found.append(f"{name}=True")
        owner, _, method = called.rpartition(".")
        kind = owner.rpartition(".")[2]
        if kind.startswith("Auto") and method in ("from_pretrained", "from_config"):
            # Without it transformers asks on the terminal; None in `keywords` stands for settings that are passed on.
            if not {"trust_remote_code", None} & keywords.keys():
                found.append(f"{kind}.{method} without trust_remote_code")
            if "Model" in kind and method == "from_pretrained" and not _is(keywords.get("use_safetensors"), True):
                found.append(f"{kind}.{method} without use_safetensors")
    return found


def _names(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                one.asname or one.name.partition(".")[0]: one.name if one.asname else one.name.partition(".")[0]
                for one in node.names
            }
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return names


def _called(function: ast.expr, names: dict[str, str]) -> str:
    """Dotted name of what is called, "" where it is no name."""
    if isinstance(function, ast.Name):
        return names.get(function.id, function.id)
    if isinstance(function, ast.Attribute):
        return f"{_called(function.value, names)}.{function.attr}"
    return ""


def _is(value: ast.expr | None, constant: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is constant


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_does_nothing_that_is_forbidden(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    assert [fault for fault in faults(path.read_text(encoding="utf-8")) if (name, fault) not in ALLOWED] == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "from torch import load as read\nread(path)",
        "import pickle\npickle.loads(content)",
        "from pickle import load\nload(file)",
        "import pandas as pd\npd.read_pickle(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=wanted)",
        "import yaml\nyaml.load(text, yaml.Loader)",
        "eval(text)",
        "exec(text)",
        "import os\nos.system(line)",
        "import subprocess\nsubprocess.run(line, shell=True)",
        "import tarfile\ntarfile.open(path)",
        "import zipfile\nzipfile.ZipFile(path)",
        "settings = {'trust_remote_code': True}",
        "from transformers import AutoConfig\nAutoConfig.from_pretrained(a, trust_remote_code=True)",
        "from transformers import AutoModel\nAutoModel.from_pretrained(a, trust_remote_code=False)",
        "import transformers\ntransformers.AutoConfig.from_pretrained(a)",
        "from transformers import AutoModel\nAutoModel.from_config(a)",
    ],
)
def test_what_is_forbidden_is_found(source: str) -> None:
    assert len(faults(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path, weights_only=True)",
        "import yaml\nyaml.safe_load(text)",
        "import numpy as np\nnp.load(path)",
        "model.eval()",
        "from transformers import AutoModel\nAutoModel.from_pretrained(a, use_safetensors=True, **settings)",
    ],
)
def test_what_is_allowed_is_left_alone(source: str) -> None:
    assert faults(source) == []
