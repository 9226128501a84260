"""What the judge writes: the table on the screen, per_finding.csv and the worst captions beside their references."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.atomic import atomic, write_text
from vlm_finetune.judge.rows import JudgedRow
from vlm_finetune.judge.statements import FindingCounts

Line = dict[str, str | int | float | None]


def write_table(path: Path, lines: Sequence[Line]) -> None:
    """Write `lines` as CSV; what is not defined is left empty."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def show_table(lines: Sequence[Line]) -> str:
    """The lines of per_finding.csv that fit on a screen."""
    columns = ("known", "precision", "recall", "f1", "macro_f1", "hallucination_rate", "omission_rate")
    heads = ("known", "precision", "recall", "F1", "macro F1", "hallucinated", "omitted")
    width = max(len(str(line["finding"])) for line in lines)
    shown = [f"{'finding':<{width}}" + "".join(f"{head:>14}" for head in heads)]
    for line in lines:
        cells = [_cell(line[column]) for column in columns]
        shown.append(f"{line['finding']!s:<{width}}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(shown)


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return "—"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def write_worst(path: Path, rows: Sequence[JudgedRow], counts: Sequence[FindingCounts], *, limit: int) -> None:
    """Write the captions with most invented findings, then most omitted and most wrong ones, as Markdown."""
    invented = np.sum([one.hallucinated for one in counts], axis=0)
    omitted = np.sum([one.omitted for one in counts], axis=0)
    wrong = np.sum([one.misgraded for one in counts], axis=0)
    faulty = np.flatnonzero(invented + omitted + wrong)
    order = faulty[np.lexsort((wrong[faulty], omitted[faulty], invented[faulty]))[::-1]][:limit]
    parts = [
        "# Worst captions\n",
        f"{len(order)} of {len(faulty)} captions with a finding invented, omitted or wrong.\n",
    ]
    for index in order:
        row = rows[index]
        parts.append(f"## {row.patch_id}\n")
        for name, faults in (
            ("not there", [one for one in counts if one.hallucinated[index]]),
            ("omitted", [one for one in counts if one.omitted[index]]),
            ("to another degree", [one for one in counts if one.misgraded[index]]),
        ):
            if faults:
                parts.append(f"- {name}: " + "; ".join(_fault(row, one) for one in faults))
        known = ", ".join(f"{name} {value}" for name, value in row.truth.items())
        caption = _line(row.text) or f"(none: {_line(row.error or 'no text')})"
        reference = _line(row.reference or f"(none; known: {known})")
        parts += [f"- caption: {caption}", f"- reference: {reference}\n"]
    write_text(path, "\n".join(parts))


def _fault(row: JudgedRow, one: FindingCounts) -> str:
    stated = row.stated.get(one.finding.name, "not stated")
    return f"{one.finding.title} ({stated}; is {row.truth[one.finding.name]})"


def _line(text: str) -> str:
    return " ".join(text.split())
