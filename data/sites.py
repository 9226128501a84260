"""Where patients were treated: stated by the source or read from their ids, and what the site alone would tell."""

import pandas as pd

from data.errors import InputError
from data.patients import compile_pattern
from data.problems import one_line

_SHOWN = 3


def assign_sites(frame: pd.DataFrame, pattern: str | None, *, source: object) -> pd.Series:
    """The column site of `frame`: as it is, or group 1 of `pattern` searched for in patient_id.

    Raises:
        InputError: sites are stated and a pattern is given, or the pattern cannot be used or finds no site.
    """
    if pattern is None:
        return frame["site"]
    if frame["site"].notna().any():
        raise InputError(f"{source}: sites are given by a column site and by --site-pattern; keep one of them")
    compiled = compile_pattern(pattern, option="--site-pattern", what="site")
    known = sorted(set(frame["patient_id"].dropna()))
    site_of = {patient: (found := compiled.search(patient)) and (found.group(1) or None) for patient in known}
    missed = [patient for patient in known if site_of[patient] is None]
    if missed:
        others = f" (and {len(missed) - 1} more patients)" if len(missed) > 1 else ""
        raise InputError(f"--site-pattern {pattern}: finds no site in {one_line(missed[0])}{others}; correct it")
    return frame["patient_id"].map(site_of).astype(object)


def check_sites(frame: pd.DataFrame, *, source: object) -> None:
    """Refuse patients of no site or of several: neither can be split by site."""
    if frame["site"].isna().any():
        row = frame[frame["site"].isna()].iloc[0]
        raise InputError(
            f"{source}: patient {row['patient_id']} has no site; fill in the column site, or read it from the "
            "patients' ids with --site-pattern REGEX (group 1 is the site)"
        )
    sites = frame.groupby("patient_id")["site"].unique()
    several = sites[sites.map(len) > 1]
    if len(several):
        named = " and ".join(sorted(several.iloc[0])[:2])
        raise InputError(f"{source}: patient {several.index[0]} is at the sites {named}; give every patient one site")


def constant_sites(frame: pd.DataFrame) -> str | None:
    """A line about sites whose patients are all of one class, or None; sites of a single patient are not counted."""
    known = frame.dropna(subset=["site", "label", "patient_id"])
    sites = known.groupby("site").agg(
        patients=("patient_id", "nunique"), classes=("label", "nunique"), label=("label", "first")
    )
    constant = sites[(sites["patients"] > 1) & (sites["classes"] == 1)]
    if constant.empty or len(sites) < 2:
        return None
    shown = [f"{site}: {row.label}, {row.patients} patients" for site, row in constant.head(_SHOWN).iterrows()]
    shown += ["…"] if len(constant) > _SHOWN else []
    return (
        f"leakage: {len(constant)} of {len(sites)} sites have patients of one class only ({'; '.join(shown)}), so that "
        "a model can tell the class by the site; test on sites of their own with --by site"
    )
