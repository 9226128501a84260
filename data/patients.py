"""Who each patch belongs to: stated by the source, read from the file name, or knowingly unknown."""

import re

import pandas as pd

from data.config import PrepareConfig
from data.errors import InputError
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
    try:
        pattern = re.compile(config.patient_pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"--patient-pattern {config.patient_pattern}: not a regular expression ({error})") from error
    if not pattern.groups:
        raise InputError(f"--patient-pattern {config.patient_pattern}: put the patient in parentheses, as group 1")
    return pattern


def assign_patients(
    frame: pd.DataFrame, pattern: re.Pattern[str] | None, config: PrepareConfig, problems: Problems
) -> None:
    """Fill the column patient_id of `frame`, which has patch_id, where and pixels; rows without one are noted."""
    if config.no_patients:
        # Images with the same pixels stay together: they are the one link that can be seen.
        same = frame.groupby("pixels")["patch_id"].transform("first")
        frame["patient_id"] = same.where(frame["pixels"].notna(), frame["patch_id"])
    elif pattern is not None:
        matches = [pattern.search(name) for name in frame["patch_id"]]
        frame["patient_id"] = [match and (match.group(1) or None) for match in matches]
        missed = frame[frame["patient_id"].isna()]
        what = [f"--patient-pattern finds no patient in {name}" for name in missed["patch_id"]]
        problems.add(zip(missed["where"], what, strict=True), "correct the pattern")
    else:
        problems.mark(frame["where"], frame["patient_id"].isna(), "patient_id is empty", "fill it in or remove the row")
