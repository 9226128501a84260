"""Descriptions that name the class are found, and those that describe histology are left alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import InputError
from data.leakage import NEUTRAL, ClassNames
from data.taxonomy import load_taxonomy

NAMES = ClassNames(load_taxonomy("neuroblastic-tumours"))


@pytest.mark.parametrize(
    ("text", "named", "masked"),
    [
        ("Undifferentiated neuroblastoma.", ["UD"], "This tumour."),
        ("Neuroblastoma, undifferentiated (UD), no neuropil.", ["UD", "UD"], "This tumour, no neuropil."),
        ("A poorly-differentiated neuroblastoma is seen.", ["PD"], "This tumour is seen."),
        ("Scant neuropil. Poorly  differentiated tumor.", ["PD"], "Scant neuropil. This tumour."),
        ("This is not a differentiating neuroblastoma.", ["D"], "This is not this tumour."),
        (
            "Consistent with GNB; ganglioneuromas differ.",
            ["GNB", "GN"],
            "Consistent with this tumour; this tumour differ.",
        ),
        ("Ganglioneuroblastoma, intermixed type", ["GNB"], "This tumour type"),
        ("Classified as D.", ["D"], "Classified as this tumour."),
        # Histology, and words in which a name only occurs.
        ("Rare differentiating neuroblasts.", [], None),
        ("No differentiating neuroblasts in this neuroblastoma.", [], None),
        ("Stained for D2-40, in 3-D, at day d.", [], None),
        ("UDP and pd are no names.", [], None),
        ("Undifferentiated small round cells.", [], None),
        ("", [], None),
    ],
)
def test_a_class_is_found_by_its_names(text: str, named: list[str], masked: str | None) -> None:
    result = NAMES.mask(text)
    assert list(result.named) == named
    assert result.text == (text if masked is None else masked)


def test_synonyms_of_the_taxonomy_count_too(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        "name: t\ntissue: osteosarcoma\nfindings: {osteoid: {terms: [viable osteoid], values: {}}}\n"
        "classes:\n  Viable: {title: Viable tumour}\n"
        "  Non-Viable-Tumor: {title: Non-viable tumour, synonyms: [treatment effect, 'Huvos III']}\n"
    )
    names = ClassNames(load_taxonomy(file))
    assert names.mask("Marked treatment-effect, huvos III.").named == ("Non-Viable-Tumor", "Non-Viable-Tumor")
    assert names.mask("No non viable tumor, but viable osteoid.").named == ("Non-Viable-Tumor",)
    assert names.mask("VIABLE cells").named == ("Viable",)


def test_names_that_are_words_or_numbers_of_their_own_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(
        "name: t\ntissue: t\nfindings: {}\nclasses: {A: {}, i: {title: Type one}, '2': {synonyms: ['', '-']}}\n"
    )
    names = ClassNames(load_taxonomy(file))
    assert names.mask("A field with 2 mitoses, as I said.").named == ()
    assert names.mask("This is type one.").named == ("i",)


def test_synonyms_that_are_no_list_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("name: t\ntissue: t\nfindings: {}\nclasses: {A: {}, B: {synonyms: bee}}\n")
    with pytest.raises(InputError, match="synonyms of the class B: expected a list"):
        ClassNames(load_taxonomy(file))


@given(st.text(max_size=60), st.sampled_from(["undifferentiated neuroblastoma", "GNB", "poorly differentiated tumour"]))
def test_a_masked_text_names_no_class_any_more(around: str, name: str) -> None:
    result = NAMES.mask(f"{around} {name} {around}")
    assert result.named
    assert NEUTRAL in result.text.lower()
    assert NAMES.mask(result.text).named == ()
