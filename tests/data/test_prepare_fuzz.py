"""Whatever a source holds, it is either read or refused with one line."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patch_sources import WRITERS, draw_patches

from data.config import PrepareConfig
from data.errors import InputError
from data.prepare import prepare
from data.sources.registry import read_source

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FILES = ("csv", "messages", "images beside", "llava")


def refused_in_one_line(path: Path, *, whole: bool) -> None:
    """Read `path`, or with `whole` prepare it; anything but success or a one-line InputError fails."""
    try:
        if whole:
            prepare(PrepareConfig(source=path, out=path.parent / "m.parquet"))
        else:
            read_source(path, images=path.parent / "none")
    except InputError as error:
        assert "\n" not in str(error)
        assert path.name in str(error)
        assert len(str(error)) < 2000


@pytest.mark.parametrize(("whole", "examples"), [(True, 10), (False, 100)])
@pytest.mark.parametrize("form", FILES)
def test_damaged_bytes_are_refused(form: str, whole: bool, examples: int) -> None:
    settings(max_examples=examples, deadline=None)(given(data=st.data())(damaged))(form=form, whole=whole)


def damaged(form: str, whole: bool, data: st.DataObject) -> None:
    """Prepare a source that was cut or overwritten somewhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = WRITERS[form](folder, draw_patches(folder, 4))
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans()):
            del content[data.draw(st.integers(0, len(content))) :]
        for position in data.draw(st.lists(st.integers(0, len(content)), max_size=4)):
            content[position : position + 1] = data.draw(st.binary(max_size=3))
        path.write_bytes(content)
        refused_in_one_line(path, whole=whole)


@pytest.mark.parametrize(("whole", "examples"), [(True, 20), (False, 100)])
def test_wrong_types_anywhere_are_refused(whole: bool, examples: int) -> None:
    settings(max_examples=examples, deadline=None)(given(data=st.data())(wrong_types))(whole=whole)


def wrong_types(whole: bool, data: st.DataObject) -> None:
    """Prepare a source in which one value is of any type."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        form = data.draw(st.sampled_from(["images beside", "messages"]))
        path = WRITERS[form](folder, draw_patches(folder, 4))
        lines = path.read_text(encoding="utf-8").splitlines()
        entry = json.loads(lines[1])
        if data.draw(st.booleans()):
            entry[data.draw(st.sampled_from([*entry, "x", "split", "slide_id", "image"]))] = data.draw(ANY)
        else:
            turn = data.draw(st.sampled_from(entry["messages"]))
            turn[data.draw(st.sampled_from([*turn]))] = data.draw(ANY)
        lines[1] = json.dumps(entry)
        path.write_text("\n".join(lines), encoding="utf-8")
        refused_in_one_line(path, whole=whole)


@settings(max_examples=40, deadline=None)
@given(value=ANY, suffix=st.sampled_from([".json", ".jsonl", ""]))
def test_any_json_is_refused(value: object, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"any{suffix}"
        path.write_text(json.dumps(value))
        with pytest.raises(InputError) as caught:
            prepare(PrepareConfig(source=path, out=Path(name) / "m.parquet"))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".data"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" + b"9" * 10_000 + b"]",
        b'{"file_name": "' + b"a" * 5_000_000 + b'"}',
        b"file_name,patient_id,label\n" + b"a" * 2_000_000 + b",p,UD\n",
        b'file_name,patient_id,label\n"' + b"a\n" * 100_000,
        b"file_name,patient_id,label\n\x00,\x00,UD\n",
        "file_name,patient_id,label\nä,p,UD\n".encode("latin-1"),
        '[{"image": "ä"}]'.encode("utf-16"),
        b"\xff\xfe\x00\x00",
        b'[{"image": "a\\u0000b", "conversations": []}]',
    ],
    ids=range(14),
)
def test_hostile_files_are_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"hostile{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        prepare(PrepareConfig(source=path, out=tmp_path / "m.parquet"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000
