"""Every form in which people keep patches gives the same manifest, and none needs to be named."""

import json
import shutil
import string
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patch_sources import WRITERS, Patch, draw_patches, write_csv, write_dataset, write_metadata

from data.config import PrepareConfig
from data.errors import InputError
from data.manifest import image_path, read_manifest
from data.prepare import prepare
from data.sources.registry import read_source

# What separates fields and lines somewhere, between any other letters.
SEPARATORS = st.sampled_from([",", ";", '"', "'", "\t", "\n", "\u2028", "\x85", "{", "\\"])
LETTERS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="<"), max_size=20)
WORDS = st.lists(SEPARATORS | LETTERS, min_size=1, max_size=6).map("".join).filter(lambda t: t and t.strip() == t)


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_gives_the_same_manifest(tmp_path: Path, form: str) -> None:
    patches = draw_patches(tmp_path)
    out = prepare(PrepareConfig(source=WRITERS[form](tmp_path, patches), out=tmp_path / "out" / "m.parquet"))
    frame = read_manifest(out)
    assert list(frame["patient_id"]) == [patch.patient_id for patch in patches]
    assert list(frame["label"]) == [patch.label for patch in patches]
    assert list(frame["description"]) == [patch.description for patch in patches]
    assert list(frame["findings"]) == [{"neuropil": "scant"}] * len(patches)
    assert set(frame["mpp"]) == {0.5}
    assert [Path(name).name for name in frame["patch_id"]] == [Path(patch.file_name).name for patch in patches]
    for patch, image in zip(patches, frame["image"], strict=True):
        assert image_path(out, image).read_bytes() == (tmp_path / patch.file_name).read_bytes()


@pytest.mark.parametrize("form", [form for form in WRITERS if form != "dataset"])
@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.builds(
            Patch,
            file_name=st.text(string.ascii_letters + string.digits + "äß_-", min_size=1).map("images/{}.png".format),
            patient_id=WORDS,
            label=st.sampled_from(["UD", "PD", "D"]),
            description=WORDS,
            mpp=st.floats(0.1, 4).map(str),
            findings=st.dictionaries(WORDS, WORDS, min_size=1, max_size=3).map(json.dumps),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_rows_come_back_from_every_form_as_they_were(form: str, rows: list[Patch]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = read_source(WRITERS[form](Path(folder), rows), images=Path(folder) / "none")
    assert [row.fault for row in source.rows] == [None] * len(rows)
    for row, patch in zip(source.rows, rows, strict=True):
        assert row.file_name == patch.file_name
        assert (row.patient_id, row.label, row.description) == (patch.patient_id, patch.label, patch.description)
        assert float(row.mpp) == float(patch.mpp)
        assert json.loads(row.findings) == json.loads(patch.findings)


def test_the_csv_of_the_paper_is_read_with_its_spaces(tmp_path: Path) -> None:
    patches = draw_patches(tmp_path)
    lines = [f'{patch.file_name}, "{patch.description}", {patch.label}' for patch in patches]
    source = tmp_path / "release.csv"
    source.write_text("\ufefffile_name, description, class\n" + "\n".join(lines), encoding="utf-8")
    out = prepare(PrepareConfig(source=source, out=tmp_path / "m.parquet", patient_pattern=r"/(p\d+)_"))
    frame = read_manifest(out)
    assert list(frame["patient_id"]) == [patch.patient_id for patch in patches]
    assert list(frame["description"]) == [patch.description for patch in patches]
    assert list(frame["label"]) == [patch.label for patch in patches]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_table_from_a_spreadsheet_is_read_whatever_separates_its_columns(tmp_path: Path, delimiter: str) -> None:
    patches = draw_patches(tmp_path)
    rows = [(p.file_name, p.patient_id, p.label, p.description) for p in patches]
    source = tmp_path / "table.csv"
    text = "\r\n".join(delimiter.join(row) for row in [("file_name", "patient_id", "label", "description"), *rows])
    source.write_text(text, encoding="utf-8", newline="")
    frame = read_manifest(prepare(PrepareConfig(source=source, out=tmp_path / "m.parquet")))
    assert list(frame["description"]) == [patch.description for patch in patches]


def test_the_line_of_a_mistake_is_right_after_a_description_of_several_lines(tmp_path: Path) -> None:
    patches = draw_patches(tmp_path)
    patches[0] = replace(patches[0], description="First line.\nSecond line.")
    patches[1] = replace(patches[1], label="XX")
    with pytest.raises(InputError, match=r"patches\.csv, line 4: label XX is not a class"):
        prepare(PrepareConfig(source=write_csv(tmp_path, patches), out=tmp_path / "m.parquet"))


def test_a_comma_without_quotes_is_told_from_a_column(tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    source.write_text("file_name,description,class\na.png,Scant, focal,UD\n")
    with pytest.raises(InputError, match=r"line 2: 4 fields where the header has 3; put texts with commas in double"):
        prepare(PrepareConfig(source=source, out=tmp_path / "m.parquet"))


@pytest.mark.parametrize(
    ("form", "suffix"), [("csv", ""), ("messages", ".txt"), ("llava", ".data"), ("llava", ".jsonl")]
)
def test_a_file_of_another_name_is_recognised_by_its_content(tmp_path: Path, form: str, suffix: str) -> None:
    patches = draw_patches(tmp_path)
    path = WRITERS[form](tmp_path, patches).rename(tmp_path / f"listing{suffix}")
    assert len(read_source(path, images=tmp_path / "none").rows) == len(patches)


def test_what_is_not_recognised_says_which_forms_there_are(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(
        InputError, match=r"notes\.txt: not a form that is known; give a CSV .* `messages`.*Hugging Face"
    ):
        prepare(PrepareConfig(source=tmp_path / "notes.txt", out=tmp_path / "m.parquet"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no dataset; expected what save_to_disk wrote"):
        prepare(PrepareConfig(source=tmp_path / "empty", out=tmp_path / "m.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": "hello"}, "messages is a str; write messages as a list"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "a turn without role of"),
        ({"images": ["images/p0_0.png", "images/p0_1.png"]}, "2 images; give one image"),
        ({"images": []}, "0 images; give one image"),
        ({"images": ["https://example.org/a.png"]}, "the image is an address on the network; save it as a file"),
        ({"images": [{"url": "data:image/png;base64,AAAA"}]}, "the image holds the image itself; save it as a file"),
        ({"label": ["UD"]}, "label is a list; write label as text"),
        ({"patient_id": "\ud800"}, "patient_id holds half of a character pair"),
        ({"mpp": True}, "mpp is a bool"),
        ({"findings": {"neuropil": [1]}}, "findings is a list"),
    ],
)
def test_a_chat_that_is_not_one_patch_is_named_by_its_line(tmp_path: Path, change: dict, message: str) -> None:  # type: ignore[type-arg]
    path = WRITERS["images beside"](tmp_path, draw_patches(tmp_path))
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | change)
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match=rf"chats\.ndjson, line 4: {message}"):
        prepare(PrepareConfig(source=path, out=tmp_path / "m.parquet"))


def test_a_chat_of_two_answers_is_not_silently_cut(tmp_path: Path) -> None:
    path = WRITERS["llava"](tmp_path, draw_patches(tmp_path))
    entries = json.loads(path.read_text(encoding="utf-8"))
    entries[2]["conversations"] *= 2
    path.write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"llava\.json, entry 3: 2 turns of the user; keep one question and one"):
        prepare(PrepareConfig(source=path, out=tmp_path / "m.parquet"))


def test_chats_without_labels_can_be_fine_tuned_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = WRITERS["llava"](tmp_path, draw_patches(tmp_path))
    entries = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        del entry["label"]
    path.write_text(json.dumps(entries))
    frame = read_manifest(prepare(PrepareConfig(source=path, out=tmp_path / "m.parquet")))
    assert frame["label"].isna().all()
    assert set(frame["split"]) == {"train", "val", "test"}
    assert "the fusion 0 labelled patches" in capsys.readouterr().out


def test_the_splits_of_a_dataset_are_kept(tmp_path: Path) -> None:
    from datasets import DatasetDict, load_from_disk

    patches = draw_patches(tmp_path)
    whole = load_from_disk(str(write_dataset(tmp_path, patches)))
    parts = {
        "train": whole.select(range(16)),
        "validation": whole.select(range(16, 20)),
        "test": whole.select(range(20, 24)),
    }
    DatasetDict(parts).save_to_disk(tmp_path / "parts")
    out = prepare(PrepareConfig(source=tmp_path / "parts", out=tmp_path / "m.parquet"))
    assert list(read_manifest(out)["split"]) == ["train"] * 16 + ["val"] * 4 + ["test"] * 4


def test_the_splits_of_an_image_folder_are_its_folders(tmp_path: Path) -> None:
    for split, some in (("train", slice(0, 20)), ("test", slice(20, 24))):
        write_metadata(tmp_path / "root" / split, draw_patches(tmp_path / "root" / split)[some])
    out = prepare(PrepareConfig(source=tmp_path / "root", out=tmp_path / "m.parquet"))
    frame = read_manifest(out)
    assert list(frame["split"]) == ["train"] * 20 + ["test"] * 4
    assert frame["patch_id"].iloc[-1] == "test/images/p11_23.png"
    assert all(image_path(out, image).is_file() for image in frame["image"])


def test_images_of_a_dataset_are_kept_only_when_all_of_it_is_good(tmp_path: Path) -> None:
    patches = draw_patches(tmp_path)
    bad = write_dataset(tmp_path, [*patches[:-1], replace(patches[-1], description=" ")])
    out = tmp_path / "out" / "m.parquet"
    with pytest.raises(InputError, match=r"dataset, dataset\[23\]: the description of p11_23\.png is empty"):
        prepare(PrepareConfig(source=bad, out=out))
    assert list(out.parent.iterdir()) == []
    shutil.rmtree(bad)
    good = write_dataset(tmp_path, patches)
    for _ in range(2):
        prepare(PrepareConfig(source=good, out=out))
    assert sorted(path.name for path in out.parent.iterdir()) == ["m-images", "m.parquet"]
    (out.parent / "m-images" / "p0_0.png").write_bytes(b"other")
    with pytest.raises(InputError, match=r"p0_0\.png: not the image of the source; choose another --out"):
        prepare(PrepareConfig(source=good, out=out))


def test_a_dataset_is_found_by_name_in_the_cache_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import load_from_disk
    from huggingface_hub import constants

    patches = draw_patches(tmp_path)
    repository = tmp_path / "hub" / "datasets--lab--patches"
    snapshot = repository / "snapshots" / ("0" * 40)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (snapshot / "data").mkdir(parents=True)
    dataset = load_from_disk(str(write_dataset(tmp_path, patches)))
    dataset.to_parquet(snapshot / "data" / "train-00000-of-00001.parquet")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    out = prepare(PrepareConfig(source=Path("lab/patches"), out=tmp_path / "m.parquet"))
    assert list(read_manifest(out)["description"]) == [patch.description for patch in patches]
    with pytest.raises(
        InputError, match=r"lab/none: no such file or folder, and no dataset .* `hf download --repo-type"
    ):
        prepare(PrepareConfig(source=Path("lab/none"), out=tmp_path / "n.parquet"))


def test_a_damaged_dataset_is_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, draw_patches(tmp_path))
    arrow = next(folder.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(InputError, match="dataset: cannot be read as a Hugging Face dataset") as caught:
        prepare(PrepareConfig(source=folder, out=tmp_path / "m.parquet"))
    assert "\n" not in str(caught.value)
