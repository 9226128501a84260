"""Amounts in a text, such as "< 5 %", "100-200" or "no more than 10": read as intervals."""

import math
import re
from dataclasses import dataclass

_NUMBER = r"(?>\d+(?:,\d{3})*(?:\.\d+)?)"
_UNIT = r"(?:\s*(?:%|percent\b|per\s?cent\b))"
_UP_TO = ("no more than", "not more than", "not exceeding", "at most", "up to", "≤", "<=")
_BELOW = ("<", "less than", "fewer than", "under", "below")
_FROM = ("≥", ">=", "at least", "no less than", "not less than", "no fewer than")
_ABOVE = (">", "more than", "greater than", "over", "above", "exceeding", "exceeds", "in excess of")
_SIGNS = "|".join(rf"\b{sign}\b" if sign[0].isalpha() else sign for sign in (*_UP_TO, *_FROM, *_BELOW, *_ABOVE))
# "5000" of "per 5000 cells" or "/5,000" is what is counted, not the count.
_COUNTED = r"(?<!\bper )(?<!\bin )(?<!\bout of )(?<![\w/.,×])"
_OF_CELLS = r"(?!\d|[.,]\d)(?!\s*(?:cells|hpf|high[- ]power|x\b|×|µm|um\b|mm\b|cm\b))"
_ABOUT = r"(?:(?:about|approximately|approx\.?|around|roughly|nearly|circa|ca\.?)\s+|~\s*)?"

QUANTITY = re.compile(
    rf"(?:(?P<sign>{_SIGNS})\s*{_ABOUT}|{_COUNTED})"
    rf"(?P<between>between\s+)?(?P<first>{_NUMBER})(?P<first_unit>{_UNIT}?)"
    rf"(?:\s*(?:-|to|(?(between)and|-))\s*(?P<second>{_NUMBER})(?P<second_unit>{_UNIT}?))?{_OF_CELLS}",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Quantity:
    """An interval of numbers, or of per cent."""

    low: float
    high: float
    percent: bool
    low_counts: bool = True
    """Whether `low` itself belongs to the interval."""
    high_counts: bool = True

    def tells(self, stated: "Quantity") -> bool:
        """Whether what a text has `stated` is meant by this interval of the taxonomy.

        Of a range the upper end counts, just short of it where the text gives a range or a limit ("up to 5 %" is below
        5 %); where there is no upper end, the lower one.
        """
        if self.percent != stated.percent:
            return False
        if math.isfinite(stated.high):
            point, side = stated.high, 0 if stated.low == stated.high else -1
        else:
            point, side = stated.low, 0 if stated.low_counts else 1
        above = point > self.low or (point == self.low and (side > 0 or (side == 0 and self.low_counts)))
        below = point < self.high or (point == self.high and (side < 0 or (side == 0 and self.high_counts)))
        return above and below


def read_quantity(match: re.Match[str]) -> Quantity:
    """The interval that a match of QUANTITY states."""
    first = float(match["first"].replace(",", ""))
    percent = bool(match["first_unit"] or match["second_unit"])
    if match["second"]:
        return Quantity(first, float(match["second"].replace(",", "")), percent)
    sign = (match["sign"] or "").lower()
    if not sign:
        return Quantity(first, first, percent)
    if sign in (*_FROM, *_ABOVE):
        return Quantity(first, math.inf, percent, low_counts=sign in _FROM)
    return Quantity(0.0, first, percent, high_counts=sign in _UP_TO)


def parse_quantity(text: str) -> Quantity:
    """The interval that the whole of `text` states.

    Raises:
        ValueError: it states none.
    """
    match = QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an amount such as '< 5 %', '100-200' or '>= 10'")
    return read_quantity(match)
