"""Everything that is wrong with a source, gathered in one pass and said at once."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import InputError

# Places that are named for each problem.
FIRST = 5
LONGEST = 300


@dataclass(frozen=True)
class Problem:
    """One kind of mistake and where it was made."""

    what: str
    """The first case in words."""
    remedy: str
    places: tuple[str, ...]
    """Where each case is: "line 5"."""
    unit: str = "rows"
    """What is counted."""

    def message(self, source: Path) -> str:
        """The problem in one line, by its first case."""
        others = f" (and {len(self.places) - 1} more {self.unit})" if len(self.places) > 1 else ""
        return one_line(f"{source}, {self.places[0]}: {self.what}") + f"{others}; {self.remedy}"

    def entry(self) -> str:
        """The problem in one line, by its first places."""
        shown = ", ".join(self.places[:FIRST]) + (", …" if len(self.places) > FIRST else "")
        unit = self.unit.removesuffix("s") if len(self.places) == 1 else self.unit
        return f"{len(self.places):>6} {unit} ({one_line(shown)}): {one_line(self.what)}; {self.remedy}"


@dataclass
class Problems:
    """Problems of one source, in the order in which they were found."""

    source: Path
    found: list[Problem] = field(default_factory=list)

    def add(self, cases: Iterable[tuple[str, str]], remedy: str, *, unit: str = "rows") -> None:
        """Note (place, what is wrong there) of each case of one kind of mistake; no cases, no problem."""
        cases = list(cases)
        if cases:
            self.found.append(Problem(cases[0][1], remedy, tuple(place for place, _ in cases), unit))

    def mark(self, places: Sequence[str], wrong: Iterable[bool], what: str, remedy: str) -> None:
        """Note each place that is marked in `wrong`."""
        self.add([(place, what) for place, marked in zip(places, wrong, strict=True) if marked], remedy)

    def check(self) -> None:
        """Raise the first problem; where it is not the only one, all are listed on stderr before."""
        if not self.found:
            return
        first = self.found[0]
        if len(self.found) == 1 and len(first.places) == 1:
            raise InputError(first.message(self.source))
        print(f"{self.source}: nothing is written until this is mended", file=sys.stderr)
        for problem in self.found:
            print(problem.entry(), file=sys.stderr)
        others = len(self.found) - 1
        kinds = f"; {others} other kind{'s' if others > 1 else ''} of mistake, listed above" if others else ""
        raise InputError(first.message(self.source) + kinds)


def one_line(text: str) -> str:
    """`text` without line breaks or characters that cannot be printed, cut where it is very long."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}…"
