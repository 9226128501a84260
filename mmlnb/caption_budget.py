"""How many patches of a slide are described, as `--caption` states it."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from data.errors import InputError

# Spelt out here as well as in `caption_choice`, which needs numpy: settings are read before anything heavy is imported.
StrategyName = Literal["mix", "random", "uncertainty", "diversity"]
FORMS = "all, none, budget=N or fraction=F"


@dataclass(frozen=True)
class CaptionBudget:
    """Some of the patches of a slide: so many, or a share of them."""

    patches: int | None = None
    fraction: float | None = None

    def count(self, patches: int) -> int:
        """How many of so many `patches` are described: at least one, and no more than there are."""
        # Rounded first, so that 0.1 of 70 is 7 and not the 8 that binary fractions make of it.
        wanted = self.patches if self.fraction is None else math.ceil(round(self.fraction * patches, 6))
        assert wanted is not None
        return min(max(wanted, 1), patches)

    def __str__(self) -> str:
        return f"budget={self.patches}" if self.fraction is None else f"fraction={self.fraction:g}"


def parse_caption(given: str) -> CaptionBudget | None:
    """The budget that `--caption` gives; None for `all` and `none`, which need no choice.

    Raises:
        InputError: none of the forms, or a number out of range.
    """
    if given in ("all", "none"):
        return None
    form = re.fullmatch(r"(budget|fraction)=(\S+)", given)
    if form is None:
        raise InputError(f"--caption {given}: give {FORMS}")
    name, value = form.groups()
    try:
        number = int(value) if name == "budget" else float(value)
    except ValueError:
        kind = "a whole number" if name == "budget" else "a number"
        raise InputError(f"--caption {given}: {value} is not {kind}; give {FORMS}") from None
    if name == "budget":
        if number < 1:
            raise InputError(f"--caption {given}: give budget=1 or more, or none")
        return CaptionBudget(patches=int(number))
    if not 0 < number <= 1:
        raise InputError(f"--caption {given}: give a fraction above 0 and up to 1, or none")
    return CaptionBudget(fraction=number)
