"""Who each patch belongs to: stated by the source, read from the file name, or knowingly unknown."""

import re

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data.config import PrepareConfig
from data.errors import InputError
from data.near_duplicates import near_duplicates
from data.problems import Problems, one_line
from data.sources.row import Source

REMEDY = (
    "add it, or read it from the file names with --patient-pattern REGEX (group 1 is the patient), or pass "
    "--no-patients to count every image as a patient of its own, which hides leakage between images of one patient"
)


def check_patient_settings(source: Source, config: PrepareConfig) -> re.Pattern[str] | None:
    """The compiled `--patient-pattern`, if there is one.

    Raises:
        InputError: no way to tell patients apart, two ways at once, or a pattern that cannot be used.
    """
    stated = "patient_id" in source.columns
    ways = [
        *(["a column patient_id"] if stated else []),
        *(["--patient-pattern"] if config.patient_pattern is not None else []),
        *(["--no-patients"] if config.no_patients else []),
    ]
    if not ways:
        found = one_line(", ".join(source.found))
        raise InputError(f"{source.path}: column patient_id is missing (found: {found}); {REMEDY}")
    if len(ways) > 1:
        raise InputError(f"{source.path}: patients are given by {' and by '.join(ways)}; keep one of them")
    if config.patient_pattern is None:
        return None
    return compile_pattern(config.patient_pattern, option="--patient-pattern", what="patient")


def compile_pattern(pattern: str, *, option: str, what: str) -> re.Pattern[str]:
    """The compiled regular expression whose group 1 is `what`.

    Raises:
        InputError: not a regular expression, or one without a group.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"{option} {pattern}: not a regular expression ({error})") from error
    if not compiled.groups:
        raise InputError(f"{option} {pattern}: put the {what} in parentheses, as group 1")
    return compiled


def assign_patients(
    frame: pd.DataFrame, pattern: re.Pattern[str] | None, config: PrepareConfig, problems: Problems
) -> None:
    """Fill the column patient_id of `frame`, which has patch_id, where and the hashes; rows without one are noted."""
    if config.no_patients:
        frame["patient_id"] = _linked_by_picture(frame)
    elif pattern is not None:
        matches = [pattern.search(name) for name in frame["patch_id"]]
        frame["patient_id"] = [match and (match.group(1) or None) for match in matches]
        missed = frame[frame["patient_id"].isna()]
        what = [f"--patient-pattern finds no patient in {name}" for name in missed["patch_id"]]
        problems.add(zip(missed["where"], what, strict=True), "correct the pattern")
    else:
        problems.mark(frame["where"], frame["patient_id"].isna(), "patient_id is empty", "fill it in or remove the row")


def _linked_by_picture(frame: pd.DataFrame) -> pd.Series:
    """The first patch among those that are, or nearly are, the same picture: the one link that can be seen."""
    same = frame.groupby("pixel_hash")["patch_id"].transform("first")
    linked = same.where(frame["pixel_hash"].notna(), frame["patch_id"])
    pairs = near_duplicates(list(frame["perceptual_hash"]), list(linked))
    number = {patch: index for index, patch in enumerate(linked.unique())}
    names = np.array(list(number))
    left, right = ([number[linked.iloc[getattr(pair, end)]] for pair in pairs] for end in ("first", "second"))
    graph = coo_array((np.ones(len(pairs)), (left, right)), shape=(len(names), len(names)))
    _, group = connected_components(graph, directed=False)
    first = dict(zip(group[::-1], names[::-1], strict=True))
    return linked.map(lambda patch: first[group[number[patch]]])
