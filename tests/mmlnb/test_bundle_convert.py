"""A bundle of the older schema becomes one of the present schema with the same models."""

import json
import shutil
from pathlib import Path

import pytest

import mmlnb
from data.atomic import digest
from data.errors import InputError
from mmlnb.bundles import EMBEDDED_FOLDER, load_bundle

OLD_FIELDS = ("model", "dtype", "decoding", "target_mpp", "tile_px", "notice")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The embedded bundle as the first schema had it: hashes of its own, settings with the paths of a machine."""
    folder = Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / "old"))
    settings = folder / "config" / "train.yaml"
    settings.write_text(settings.read_text().replace("manifest: ", "manifest: /home/somebody/"))
    index = json.loads((folder / "bundle.json").read_text())
    files = {name: digest((folder / name).read_bytes()) for name in index["files"]}
    content = {"schema": 1, **{name: index[name] for name in OLD_FIELDS}, "files": files}
    (folder / "bundle.json").write_text(json.dumps(content))
    return folder


def test_a_bundle_of_the_first_schema_is_converted_with_the_command_that_its_refusal_names(
    old: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="schema 1, expected 2; bring it up to date with `mmlnb bundle convert"):
        load_bundle(old)
    mmlnb.bundle_convert(old, tmp_path / "new", licence="cc-by-4.0")
    before, after = load_bundle(), load_bundle(tmp_path / "new")
    assert after.index.licence == "cc-by-4.0"
    assert {name: getattr(after.index, name) for name in OLD_FIELDS} == {
        name: getattr(before.index, name) for name in OLD_FIELDS
    }
    changed = {name for name, key in after.index.files.items() if before.index.files[name] != key}
    assert changed == {"README.md"}
    assert "/home/somebody" not in (tmp_path / "new" / "config" / "train.yaml").read_text()


def test_what_cannot_be_converted_is_named_and_leaves_nothing(old: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="schema 2, which is the present one"):
        mmlnb.bundle_convert(EMBEDDED_FOLDER, tmp_path / "new")
    (old / "fusion" / "calibration.json").write_text("{}")
    with pytest.raises(InputError, match=r"calibration\.json: was changed"):
        mmlnb.bundle_convert(old, tmp_path / "new")
    with pytest.raises(InputError, match=r"old: exists already"):
        mmlnb.bundle_convert(old, old)
    (old / "bundle.json").write_text('{"schema": 1}')
    with pytest.raises(InputError, match=r"not the index of a bundle \(model is missing"):
        mmlnb.bundle_convert(old, tmp_path / "new")
    assert not (tmp_path / "new").exists()
