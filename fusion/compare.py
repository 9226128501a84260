"""Compare two evaluations of the same patches, or two arms of one: what differs, and whether chance explains it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.atomic import digest, write_json, write_text
from data.claim import claim
from data.command import config_yaml, run_command
from data.errors import InputError
from fusion.config import CompareConfig
from fusion.mcnemar import mcnemar
from fusion.paired import Paired, pair
from fusion.predictions import PREDICTIONS, Predictions, read_predictions
from fusion.slide_level import call_slides, group_slides

SHOWN = ("balanced_accuracy", "auroc", "macro_f1", "kappa", "log_loss", "calibration_error")
# Versions of an image decoder differ by less.
LARGEST_TISSUE_GAP = 0.05


def compare(config: CompareConfig) -> Path:
    """Compare A and B over the patches that count for both, and over their slides; returns `config.out`.

    Writes config.yaml and comparison.json (docs/evidence.md has its fields).

    Raises:
        InputError: a folder without an evaluation, evaluations of different patches, labels, slides or patients, or an
            output folder of something else.
    """
    folder_b = config.b or config.a
    a = read_predictions(config.a)
    b = _same_patches(a, read_predictions(folder_b), folder_a=config.a, folder_b=folder_b)
    _claim(config, folder_b)
    counted = np.intersect1d(a.counted(config.arm_a), b.counted(config.arm_b))
    left_out = len(a) - len(counted)
    a, b = a.take(counted), b.take(counted)
    patches = pair(a.classified(config.arm_a), b.classified(config.arm_b), seed=config.seed)
    slides, reason = _slides(a, b, config)
    write_text(config.out / "config.yaml", config_yaml(config))
    write_json(
        config.out / "comparison.json",
        {
            "a": {"evaluation": str(config.a), "arm": config.arm_a},
            "b": {"evaluation": str(folder_b), "arm": config.arm_b},
            "patches": {"left_out_without_text": left_out, **asdict(patches)},
            "slides": slides,
            "slides_reason": reason,
        },
    )
    tqdm.write(_table(config, patches, slides))
    return config.out


def _claim(config: CompareConfig, folder_b: Path) -> None:
    """Mark the output folder with the hash of all that decides the figures."""
    settings = {name: getattr(config, name) for name in ("arm_a", "arm_b", "aggregation", "seed")}
    claim(
        config.out,
        key=digest(json.dumps(settings), *((folder / PREDICTIONS).read_bytes() for folder in (config.a, folder_b))),
    )


def _same_patches(a: Predictions, b: Predictions, *, folder_a: Path, folder_b: Path) -> Predictions:
    """`b` in the order of `a`.

    Raises:
        InputError: anything but the predictions differs; the message says what.
    """
    remedy = "evaluate both on the same split of the same manifest"
    if a.classes != b.classes:
        raise InputError(
            f"{folder_b}: has the classes {', '.join(b.classes)}, and {folder_a} has {', '.join(a.classes)}; {remedy}"
        )
    only_a, only_b = (sorted(set(one.ids) - set(other.ids)) for one, other in ((a, b), (b, a)))
    if only_a or only_b:
        example = (only_a or only_b)[0]
        raise InputError(
            f"{folder_b}: has not the patches of {folder_a}: {len(only_a)} are only there and {len(only_b)} only here, "
            f"for example {example}; {remedy}"
        )
    place = {patch: row for row, patch in enumerate(b.ids)}
    b = b.take(np.array([place[patch] for patch in a.ids], dtype=int))
    truths: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {
        "label": ([a.classes[label] for label in a.labels], [b.classes[label] for label in b.labels]),
        "slide": (a.slides, b.slides),
        "patient": (a.patients, b.patients),
    }
    for what, (there, here) in truths.items():
        different = [row for row in range(len(a)) if there[row] != here[row]]
        if different:
            row = different[0]
            raise InputError(
                f"{folder_b}: the {what} of {len(different)} patches is not that in {folder_a}, for example "
                f"{a.ids[row]}: {here[row]}, there {there[row]}; {remedy}"
            )
    changed = np.flatnonzero(np.abs(a.tissue - b.tissue) > LARGEST_TISSUE_GAP)
    if len(changed):
        raise InputError(
            f"{folder_b}: the images of {len(changed)} patches show more or less tissue than in {folder_a}, "
            f"for example {a.ids[changed[0]]}; {remedy}"
        )
    # Weighs the patches of a slide alike on both sides.
    return replace(b, tissue=a.tissue)


def _slides(a: Predictions, b: Predictions, config: CompareConfig) -> tuple[dict[str, Any] | None, str | None]:
    """Comparison over the slides as JSON holds it, or why there is none."""
    slides = group_slides(a)
    if slides is None:
        return None, "no patch names its slide"
    called_a = call_slides(slides, a, config.arm_a)[config.aggregation]
    called_b = call_slides(slides, b, config.arm_b)[config.aggregation]
    paired = pair(called_a, called_b, seed=config.seed)
    test = mcnemar(*(one.probabilities.argmax(axis=1) == one.labels for one in (called_a, called_b)))
    several = len(called_a) > paired.patients
    return {
        "aggregation": config.aggregation,
        "mixed_labels": slides.mixed_labels,
        "left_out": slides.left_out,
        **asdict(paired),
        "mcnemar": {
            **asdict(test),
            "remark": "takes slides of one patient as independent; rely on the intervals" if several else None,
        },
    }, None


def _table(config: CompareConfig, patches: Paired, slides: dict[str, Any] | None) -> str:
    name_a, name_b = (
        f"{folder.name}/{arm}" for folder, arm in ((config.a, config.arm_a), (config.b or config.a, config.arm_b))
    )
    lines = [f"A = {name_a}, B = {name_b}", *_lines("patches", asdict(patches))]
    if slides:
        test = slides["mcnemar"]
        lines += [
            *_lines("slides", slides),
            f"right: both {test['both_right']}, only A {test['only_a_right']}, only B {test['only_b_right']}, "
            f"neither {test['both_wrong']}; McNemar p = {_shown(test['p'])}",
        ]
    return "\n".join(lines)


def _lines(what: str, paired: dict[str, Any]) -> list[str]:
    head = f"{paired['rows']} {what}, {paired['patients']} patients"
    lines = [f"{head:<38}{'A':>8}{'B':>8}{'A − B (95 %)':>26}{'A higher':>10}{'B higher':>10}"]
    for name in SHOWN:
        row = paired["measures"][name]
        title = name.replace("_", " ") + ("" if row["higher_is_better"] else " (lower is better)")
        gap = _shown(row["difference"], signed=True)
        if row["interval"]:
            gap += f" ({' to '.join(_shown(end, signed=True) for end in row['interval'])})"
        lines.append(
            f"{title:<38}{_shown(row['a']):>8}{_shown(row['b']):>8}{gap:>26}"
            f"{_shown(row['a_higher']):>10}{_shown(row['b_higher']):>10}"
        )
    return [*lines, *([f"note: {paired['remark']}"] if paired["remark"] else [])]


def _shown(value: float | None, *, signed: bool = False) -> str:
    return "—" if value is None else f"{value:{'+' if signed else ''}.3f}"


if __name__ == "__main__":
    raise SystemExit(run_command(compare, CompareConfig, name="compare", positional=("a", "b")))
