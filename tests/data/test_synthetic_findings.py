"""Findings, amounts and descriptions of synthetic tissue."""

from dataclasses import replace

import numpy as np
import pytest

from data.errors import InputError
from data.findings import read_findings
from data.synthetic.amounts import draw_amounts, draw_findings
from data.synthetic.describe import describe
from data.taxonomy import Value, load_taxonomy

TAXONOMIES = ["neuroblastoma", "neuroblastic-tumours"]


@pytest.mark.parametrize("name", TAXONOMIES)
def test_drawn_findings_always_belong_to_their_class(name: str) -> None:
    taxonomy, rng = load_taxonomy(name), np.random.default_rng(1)
    for subtype in taxonomy.classes.values():
        for _ in range(100):
            findings = draw_findings(subtype, taxonomy, rng)
            assert set(findings) == set(taxonomy.findings)
            assert taxonomy.classify(findings) == subtype.name


def test_findings_occur_as_often_as_the_taxonomy_says() -> None:
    taxonomy, rng = load_taxonomy(), np.random.default_rng(1)
    drawn = [draw_findings(taxonomy.classes["UD"], taxonomy, rng)["mki"] for _ in range(2000)]
    assert drawn.count("high") / 2000 == pytest.approx(0.5, abs=0.05)


def test_a_class_that_contradicts_its_own_rule_is_refused() -> None:
    taxonomy = load_taxonomy()
    twin = replace(taxonomy.classes["UD"], name="twin")
    doubled = replace(taxonomy, classes={**taxonomy.classes, "twin": twin})
    with pytest.raises(InputError, match="class twin"):
        draw_findings(twin, doubled, np.random.default_rng(1))


def test_amounts_lie_in_the_range_of_their_value() -> None:
    taxonomy, rng = load_taxonomy(), np.random.default_rng(1)
    for finding in taxonomy.findings.values():
        for value in finding.values.values():
            amounts = draw_amounts({finding.name: value.name}, taxonomy, rng)
            for primitive, (low, high) in value.draw.items():
                assert low <= amounts[primitive] <= high


def test_a_primitive_that_cannot_be_drawn_is_named() -> None:
    taxonomy = load_taxonomy()
    necrosis = replace(
        taxonomy.findings["necrosis"],
        values={"present": Value("present", phrases=("necrosis",), draw={"slime": (0, 1)})},
    )
    broken = replace(taxonomy, findings={**taxonomy.findings, "necrosis": necrosis})
    with pytest.raises(InputError, match="necrosis/present draws slime; use one of cells, fibrils"):
        draw_amounts({"necrosis": "present"}, broken, np.random.default_rng(1))


@pytest.mark.parametrize("name", TAXONOMIES)
def test_a_description_reads_back_as_its_findings(name: str) -> None:
    taxonomy, rng = load_taxonomy(name), np.random.default_rng(1)
    for subtype in taxonomy.classes.values():
        for _ in range(60):
            findings = draw_findings(subtype, taxonomy, rng)
            assert read_findings(describe(findings, taxonomy, rng), taxonomy) == findings


def test_any_combination_of_values_reads_back_also_those_of_no_class() -> None:
    taxonomy, rng = load_taxonomy("neuroblastic-tumours"), np.random.default_rng(1)
    for _ in range(300):
        findings = {f.name: str(rng.choice(list(f.values))) for f in taxonomy.findings.values()}
        assert read_findings(describe(findings, taxonomy, rng), taxonomy) == findings


def test_a_description_is_short_uses_a_phrase_per_finding_and_names_no_class() -> None:
    taxonomy, rng = load_taxonomy("neuroblastic-tumours"), np.random.default_rng(1)
    for subtype in taxonomy.classes.values():
        for _ in range(40):
            findings = draw_findings(subtype, taxonomy, rng)
            text = describe(findings, taxonomy, rng)
            assert 25 <= len(text.split()) <= 60
            for name, value in findings.items():
                assert any(phrase in text for phrase in taxonomy.findings[name].values[value].phrases)
            for other in taxonomy.classes.values():
                assert other.title.lower() not in text.lower()
                assert other.name not in text.replace(".", " ").replace(",", " ").split()


def test_the_same_findings_are_worded_in_many_ways() -> None:
    taxonomy, rng = load_taxonomy(), np.random.default_rng(1)
    findings = draw_findings(taxonomy.classes["PD"], taxonomy, rng)
    assert len({describe(findings, taxonomy, rng) for _ in range(50)}) > 45


def test_an_unknown_value_is_refused() -> None:
    taxonomy, rng = load_taxonomy(), np.random.default_rng(1)
    with pytest.raises(InputError, match="no finding necrosis with the value much"):
        describe({"necrosis": "much"}, taxonomy, rng)
    with pytest.raises(InputError, match="no finding oedema"):
        describe({"oedema": "present"}, taxonomy, rng)
