"""Findings are read from free text as a pathologist would read them."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from data.findings import find_mentions, read_findings
from data.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy("neuroblastoma")
SENTENCES = [
    pytest.param(text, findings, id=f"{group}-{index}")
    for group, rows in yaml.safe_load((Path(__file__).parent / "finding_sentences.yaml").read_text("utf-8")).items()
    for index, (text, findings) in enumerate(rows)
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Abundant neuropil.", {"neuropil": "abundant"}),
        ("Neuropil is abundant around rosettes.", {"neuropil": "abundant", "rosettes": "present"}),
        ("NO NEUROPIL", {"neuropil": "absent"}),
        ("A low mitosis–karyorrhexis index", {"mki": "low"}),
        ("The field is densely cellular.", {"cellularity": "high"}),
        ("A hypercellular appearance", {"cellularity": "high"}),
        ("Rosettes are not seen.", {"rosettes": "absent"}),
        ("Rosettes are seen.", {"rosettes": "present"}),
        (
            "No necrosis, calcification or haemorrhage is seen.",
            {"necrosis": "absent", "calcification": "absent", "haemorrhage": "absent"},
        ),
        ("Necrosis and haemorrhage are absent", {"necrosis": "absent", "haemorrhage": "absent"}),
        ("No rosettes, abundant neuropil", {"rosettes": "absent", "neuropil": "abundant"}),
        ("Without neuropil but with necrosis", {"neuropil": "absent", "necrosis": "present"}),
        ("No neuropil and foci of calcification", {"neuropil": "absent", "calcification": "present"}),
        ("Abundant neuropil and rosettes are absent", {"neuropil": "abundant", "rosettes": "absent"}),
        (
            "Brisk mitotic and karyorrhectic activity with scant neuropil",
            {"mki": "high", "neuropil": "scant"},
        ),
        ("The sky is blue.", {}),
        ("Necrotising teratoid tissue", {}),
        ("", {}),
    ],
)
def test_a_statement_is_read_with_its_value_and_its_negation(text: str, expected: dict[str, str]) -> None:
    assert read_findings(text, TAXONOMY) == expected


@pytest.mark.parametrize(("text", "expected"), SENTENCES)
def test_a_sentence_of_a_report_is_read_as_a_pathologist_reads_it(text: str, expected: dict[str, str]) -> None:
    assert read_findings(text, TAXONOMY) == expected


@pytest.mark.parametrize("template", ["There is {}.", "{} is seen.", "Sections show {}, with other things."])
def test_every_phrase_of_the_taxonomy_reads_back_as_its_own_value(template: str) -> None:
    for taxonomy in (TAXONOMY, load_taxonomy("neuroblastic-tumours")):
        for finding in taxonomy.findings.values():
            for value in finding.values.values():
                for phrase in value.phrases:
                    assert read_findings(template.format(phrase), taxonomy) == {finding.name: value.name}


def test_the_last_statement_counts_when_two_disagree() -> None:
    assert read_findings("Scant neuropil. Elsewhere abundant neuropil.", TAXONOMY) == {"neuropil": "abundant"}


def test_the_bare_name_of_a_finding_takes_nothing_back() -> None:
    text = "No neuropil. Abundant calcification. Elsewhere neuropil."
    assert [mention.explicit for mention in find_mentions(text, TAXONOMY)] == [True, True, False]
    assert read_findings(text, TAXONOMY) == {"neuropil": "absent", "calcification": "present"}


def test_mentions_point_at_the_words_of_the_original_text() -> None:
    text = "İn short: No Rosettes – abundant Neuropil."
    assert [text[m.start : m.end] for m in find_mentions(text, TAXONOMY)] == ["Rosettes", "Neuropil"]


@given(st.text(max_size=200))
def test_any_text_is_read_without_error_into_known_values(text: str) -> None:
    for mention in find_mentions(text, TAXONOMY):
        assert mention.value in TAXONOMY.findings[mention.finding].values
        assert 0 <= mention.start < mention.end <= len(text)
