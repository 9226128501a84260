"""A bundle that is not what it was made is refused, by the name of the file and with what to do."""

import hashlib
import json
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from mmlnb.bundle_files import hash_file
from mmlnb.bundles import EMBEDDED_FOLDER, load_bundle

WEIGHTS = "adapter/adapter_model.safetensors"
HEAD = "fusion/model/fusion.json"
TOWER = "fusion/model/image_tower/tower.json"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that can be spoilt."""
    return Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / "bundle"))


def change_index(bundle: Path, **changes: Any) -> None:
    """Write an index with `changes`, its own hash made to fit."""
    index = replace(load_bundle(EMBEDDED_FOLDER).index, **changes)
    (bundle / "bundle.json").write_text(json.dumps(asdict(index) | {"key": index.own_key}))


def change_file(bundle: Path, name: str, *, old: str, new: str) -> None:
    """Change a text file and make the index fit: what remains is that the parts do not belong together."""
    path = bundle / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    change_index(bundle, files=load_bundle(EMBEDDED_FOLDER).index.files | {name: hash_file(path)})


def zipped(path: Path) -> None:
    """What torch.save writes, under a name of ours."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weights": [1.0]}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: (b / WEIGHTS).unlink(), r"adapter_model\.safetensors: missing from the bundle; make or fetch"),
        (lambda b: (b / "taxonomy.yaml").write_text("name: other"), r"taxonomy\.yaml: was changed after"),
        (lambda b: (b / "notes.md").write_text("mine"), r"notes\.md: is not part of the bundle .* remove it"),
        (lambda b: (b / "fusion" / "extra.pt").touch(), r"extra\.pt: a pickle by its suffix"),
        (lambda b: (b / "model.py").touch(), r"model\.py: a bundle holds no \.py files"),
        (lambda b: (b / "LICENSE").touch(), r"LICENSE: a bundle holds no such files"),
        (lambda b: (b / WEIGHTS).write_bytes(pickle.dumps([1])), r"safetensors: a pickle by its content"),
        (lambda b: zipped(b / WEIGHTS), r"safetensors: a pickle by its content"),
        (lambda b: zipped(b / "metrics.json"), r"metrics\.json: a pickle by its content"),
        (lambda b: (b / WEIGHTS).write_bytes(b"\xff" * 99), r"safetensors: is no safetensors file"),
        (lambda b: (b / HEAD).write_text("{" * 9), r"fusion\.json: is no json file"),
        (lambda b: (b / HEAD).write_text('{"a":' * 10**5), r"fusion\.json: nested too deeply"),
    ],
)
def test_a_file_that_was_changed_added_or_lost_or_is_a_pickle_is_named(
    bundle: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(bundle)
    with pytest.raises(InputError, match=message) as caught:
        load_bundle(bundle)
    assert "\n" not in str(caught.value)


def test_a_link_is_refused_even_to_the_same_file(bundle: Path, tmp_path: Path) -> None:
    (bundle / "metrics.json").rename(tmp_path / "metrics.json")
    (bundle / "metrics.json").symlink_to(tmp_path / "metrics.json")
    with pytest.raises(InputError, match=r"metrics\.json: is a link, which a bundle may not hold"):
        load_bundle(bundle)
    (bundle / "metrics.json").unlink()
    shutil.move(bundle / "config", tmp_path / "config")
    (bundle / "config").symlink_to(tmp_path / "config")
    with pytest.raises(InputError, match=r"config: is a link, which a bundle may not hold"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "name", ["../taxonomy.yaml", "/etc/passwd", "a/../../b.json", "C:\\x.json", "a\nb.json", "", ".", "a//b"]
)
def test_a_path_out_of_the_folder_is_refused_before_it_is_read(bundle: Path, name: str) -> None:
    change_index(bundle, files=load_bundle(EMBEDDED_FOLDER).index.files | {name: "0" * 64})
    with pytest.raises(InputError, match=r"bundle\.json: lists .* which is no path inside the bundle"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"not JSON in UTF-8"),
        ("[]", r"not a JSON object but a list"),
        ("[" * 10**5, r"nested too deeply"),
        ('{"schema": 99}', r"schema 99, expected 2; it is of a later mmlnb than this one"),
        ('{"schema": 1}', r"schema 1, expected 2; bring it up to date with `mmlnb bundle convert .*bundle NEW`"),
        ('{"schema": 2}', r"not the index of a bundle \('decoding' is missing\)"),
        ('{"schema": "2"}', r"schema 2, expected 2"),
    ],
)
def test_an_index_that_is_none_is_one_line(bundle: Path, content: str, message: str) -> None:
    (bundle / "bundle.json").write_text(content)
    with pytest.raises(InputError, match=rf"bundle\.json: {message}") as caught:
        load_bundle(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_mpp": "half"}, 'target_mpp is "half", expected another kind'),
        ({"target_mpp": -0.5}, "target_mpp is -0.5, expected µm per pixel above 0"),
        ({"tile_px": 224.5}, "tile_px is 224.5, expected another kind"),
        ({"tile_px": 0}, "tile_px is 0, expected pixels above 0"),
        ({"decoding": {"code": 1.0}}, "decoding has 'code'"),
        ({"files": {"a.json": 1}}, "files is .* expected another kind"),
        ({"image_dim": 193}, "image_dim is 193, but the files say 192"),
        ({"prompt": "0" * 32}, "prompt is 0+, but the files say"),
    ],
)
def test_a_value_of_the_index_that_cannot_be_is_named(bundle: Path, changes: dict[str, Any], message: str) -> None:
    change_index(bundle, **changes)
    with pytest.raises(InputError, match=rf"bundle\.json: {message}"):
        load_bundle(bundle)


def test_a_notice_that_was_taken_out_of_the_index_is_noticed(bundle: Path) -> None:
    index = bundle / "bundle.json"
    index.write_text(index.read_text().replace("synthetic tissue only", "much tissue"))
    with pytest.raises(InputError, match=r"bundle\.json: was changed after the bundle was made"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (HEAD, '"UD"', '"XX"', r"fusion\.json: tells apart XX, PD, D, but taxonomy\.yaml has UD, PD, D"),
        (TOWER, '"dim": 192', '"dim": 256', r"image_head\.weight has the shape \[3, 192\].* image_tower 256 features"),
        (TOWER, '"dim": 192', '"dim": null', r"tower\.json: does not say how many features"),
        ("adapter/prompt.json", "on this neuroblastoma", "on this bone", r"prompt\.json: asks .*on this bone image"),
        ("taxonomy.yaml", "name: neuro", "extends: neuro", r"taxonomy\.yaml: extends another taxonomy"),
        ("taxonomy.yaml", "tissue: neuroblastoma", "tissue: bone", r"prompt\.json: asks .* the bone of taxonomy\.yaml"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    bundle: Path, name: str, old: str, new: str, message: str
) -> None:
    change_file(bundle, name, old=old, new=new)
    with pytest.raises(InputError, match=message):
        load_bundle(bundle)


def test_a_sound_bundle_is_the_same_wherever_it_lies(bundle: Path) -> None:
    assert load_bundle(bundle).key == load_bundle().key == load_bundle("embedded").key
    (bundle / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    assert load_bundle(bundle).key == load_bundle().key


@settings(max_examples=30, deadline=None)
@given(damage=st.data())
def test_no_damage_to_the_index_gets_through_or_ends_in_a_traceback(damage: st.DataObject) -> None:
    text = bytearray((EMBEDDED_FOLDER / "bundle.json").read_bytes())
    for _ in range(damage.draw(st.integers(1, 4))):
        text[damage.draw(st.integers(0, len(text) - 1))] = damage.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(shutil.copytree(EMBEDDED_FOLDER, Path(folder) / "bundle"))
        (bundle / "bundle.json").write_bytes(text)
        try:
            loaded = load_bundle(bundle)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            # Blanks between the values say nothing.
            assert loaded.key == load_bundle().key


def test_hashes_are_those_that_everybody_can_compute() -> None:
    index = load_bundle().index
    for name, key in index.files.items():
        assert hashlib.sha256((EMBEDDED_FOLDER / name).read_bytes()).hexdigest() == key
