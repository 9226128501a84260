"""Text on a patient comes from an adapter that has not read that patient's descriptions."""

import json
from pathlib import Path

import pytest

from data.errors import InputError
from vlm_finetune.unseen import Row, choose_adapters

ROWS = [Row(f"p{index}", f"{index}.png", patient) for index, patient in enumerate(["A", "B", "C", "D", None, "A"])]


def run_folder(path: Path, *patients: str) -> Path:
    path.mkdir(parents=True)
    (path / "trained_on.json").write_text(json.dumps({"patients": patients, "pairs": 1}))
    return path


def names(shares: list[tuple[Path | None, list[Row]]], adapter: Path) -> dict[str, list[str]]:
    return {
        str(chosen.relative_to(adapter)) if chosen else "none": [row.patch_id for row in rows]
        for chosen, rows in shares
    }


@pytest.fixture
def crossfitted(tmp_path: Path) -> Path:
    adapter = run_folder(tmp_path / "run", "A", "B", "C")
    run_folder(adapter / "crossfit" / "1", "B", "C")
    run_folder(adapter / "crossfit" / "2", "A")
    return adapter


def test_each_patient_gets_the_fold_that_held_it_out_and_others_the_adapter_itself(crossfitted: Path) -> None:
    shares = choose_adapters(crossfitted, ROWS, allow_seen=False)
    assert names(shares, crossfitted) == {"crossfit/1": ["p0", "p5"], "crossfit/2": ["p1", "p2"], ".": ["p3", "p4"]}


def test_the_folds_are_used_where_seen_patients_are_allowed_too(crossfitted: Path) -> None:
    shares = choose_adapters(crossfitted, ROWS, allow_seen=True)
    assert names(shares, crossfitted)["crossfit/1"] == ["p0", "p5"]


def test_a_patient_whom_every_adapter_has_seen_is_refused_by_name_unless_allowed(crossfitted: Path) -> None:
    (crossfitted / "crossfit" / "1" / "trained_on.json").write_text('{"patients": ["A", "B"]}')
    with pytest.raises(InputError, match=r"1 of the patients .* such as A.*--crossfit.*--seen_patients allow"):
        choose_adapters(crossfitted, ROWS, allow_seen=False)
    assert names(choose_adapters(crossfitted, ROWS, allow_seen=True), crossfitted)["."] == ["p0", "p3", "p4", "p5"]


def test_an_adapter_of_unknown_patients_is_refused_unless_allowed(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    with pytest.raises(InputError, match=r"whom it was trained on is unknown"):
        choose_adapters(adapter, ROWS, allow_seen=False)
    assert names(choose_adapters(adapter, ROWS, allow_seen=True), adapter) == {".": [row.patch_id for row in ROWS]}
    (adapter / "trained_on.json").write_text('{"patients"')
    with pytest.raises(InputError, match=r"trained_on\.json: cannot be read"):
        choose_adapters(adapter, ROWS, allow_seen=True)


def test_the_adapter_may_be_given_by_the_folder_inside_its_run(crossfitted: Path) -> None:
    (crossfitted / "adapter").mkdir()
    shares = choose_adapters(crossfitted / "adapter", ROWS, allow_seen=False)
    assert [len(rows) for _, rows in shares] == [2, 2, 2]


def test_without_an_adapter_nobody_was_seen() -> None:
    assert choose_adapters(None, ROWS, allow_seen=False) == [(None, ROWS)]
