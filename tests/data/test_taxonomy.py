"""A taxonomy says what classes and findings there are, and a user's own replaces ours."""

from pathlib import Path

import pytest

from data.errors import InputError
from data.findings import read_findings
from data.taxonomy import load_taxonomy

OSTEOSARCOMA = """
name: osteosarcoma
tissue: osteosarcoma
negation: {before: ["no"]}
findings:
  osteoid:
    terms: [osteoid]
    denied: absent
    stated: present
    values:
      absent: {phrases: ["no osteoid"]}
      present: {phrases: ["osteoid"]}
classes:
  Viable: {rule: {osteoid: [present]}}
  Necrotic: {rule: {osteoid: [absent]}}
"""


def test_classes_follow_the_rules_of_the_international_classification() -> None:
    taxonomy = load_taxonomy("neuroblastoma")
    poor = {"stroma": "poor"}
    assert taxonomy.classify(poor | {"neuropil": "absent", "differentiation": "absent"}) == "UD"
    assert taxonomy.classify(poor | {"neuropil": "scant", "differentiation": "rare"}) == "PD"
    assert taxonomy.classify(poor | {"neuropil": "abundant", "differentiation": "frequent"}) == "D"
    assert taxonomy.classify({"stroma": "rich", "neuropil": "absent", "differentiation": "frequent"}) is None


def test_an_extended_taxonomy_adds_classes_and_keeps_the_findings() -> None:
    small, large = load_taxonomy("neuroblastoma"), load_taxonomy("neuroblastic-tumours")
    assert small.class_names == ("UD", "PD", "D")
    assert large.class_names == ("UD", "PD", "D", "GNB", "GN")
    assert large.findings == small.findings
    assert large.classify({"stroma": "dominant"}) == "GN"


def test_another_tumour_needs_nothing_but_a_file(tmp_path: Path) -> None:
    file = tmp_path / "osteosarcoma.yaml"
    file.write_text(OSTEOSARCOMA)
    taxonomy = load_taxonomy(file)
    assert taxonomy.class_names == ("Viable", "Necrotic")
    assert read_findings("There is no osteoid.", taxonomy) == {"osteoid": "absent"}


def test_the_saved_source_loads_as_the_same_taxonomy(tmp_path: Path) -> None:
    taxonomy = load_taxonomy("neuroblastic-tumours")
    copy = tmp_path / "copy.yaml"
    copy.write_text(taxonomy.source)
    assert load_taxonomy(copy).key == taxonomy.key


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (("rule: {osteoid: [present]}", "rule: {osteiod: [present]}"), "osteiod, which is not defined"),
        (("[present]", "[maybe]"), "no value maybe"),
        (("denied: absent", "denied: missing"), "missing is not one of its values"),
        (("  Necrotic: {rule: {osteoid: [absent]}}\n", ""), "at least two classes"),
        (("name: osteosarcoma\n", ""), "not a taxonomy"),
        (("classes:", "classes: ["), "not valid YAML"),
        (("name: osteosarcoma\n", "name: osteosarcoma\nextends: nothing\n"), "nothing: no such taxonomy"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, damage: tuple[str, str], message: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(OSTEOSARCOMA.replace(*damage))
    with pytest.raises(InputError, match=message) as caught:
        load_taxonomy(file)
    assert "broken.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="neuroblastic-tumours, neuroblastoma"):
        load_taxonomy("neuroblastom")
