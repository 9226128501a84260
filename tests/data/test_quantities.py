"""Amounts in a text are read as intervals, and placed among those of a taxonomy."""

import math

import pytest

from data.quantities import QUANTITY, Quantity, parse_quantity, read_quantity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100-200", Quantity(100, 200, percent=False)),
        ("between 100 and 200", Quantity(100, 200, percent=False)),
        ("5 to 10 percent", Quantity(5, 10, percent=True)),
        ("5%-10%", Quantity(5, 10, percent=True)),
        ("< 5 %", Quantity(0, 5, percent=True, high_counts=False)),
        ("up to about 5 per cent", Quantity(0, 5, percent=True)),
        ("no more than 5 %", Quantity(0, 5, percent=True)),
        ("more than 200", Quantity(200, math.inf, percent=False, low_counts=False)),
        (">=5%", Quantity(5, math.inf, percent=True)),
        ("1,200", Quantity(1200, 1200, percent=False)),
        ("2.5 %", Quantity(2.5, 2.5, percent=True)),
    ],
)
def test_an_amount_is_an_interval(text: str, expected: Quantity) -> None:
    assert parse_quantity(text) == expected


@pytest.mark.parametrize(
    "text", ["per 5,000 cells", "/5000", "5000 cells", "40x", "200 µm", "out of 5000", "CD56", "in 10 hpf"]
)
def test_what_is_counted_in_is_no_amount(text: str) -> None:
    assert QUANTITY.search(text) is None


@pytest.mark.parametrize("text", ["many", "", "5 cows", "<"])
def test_words_are_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ("99", "low"),
        ("100", "intermediate"),
        ("200", "intermediate"),
        ("201", "high"),
        ("<100", "low"),
        ("> 200", "high"),
        ("> 100", "intermediate"),
        ("50-100", "low"),
        ("50-150", "intermediate"),
        ("150-250", "high"),
        ("150 %", None),
    ],
)
def test_an_amount_falls_on_one_side_of_every_bound(stated: str, told: str | None) -> None:
    bounds = {"low": "< 100", "intermediate": "100-200", "high": "> 200"}
    match = QUANTITY.fullmatch(stated)
    assert match is not None
    found = [name for name, bound in bounds.items() if parse_quantity(bound).tells(read_quantity(match))]
    assert found == ([] if told is None else [told])
