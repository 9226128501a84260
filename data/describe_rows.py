"""What `mmlnb prepare` says about descriptions and rows before anything is trained on them."""

from collections import Counter

import pandas as pd

from data.leakage import ClassNames, count_namings
from data.manifest import SPLITS
from data.problems import one_line
from data.taxonomy import Taxonomy

NO_LABEL, ALL = "(no label)", "all"


def repeated_descriptions(descriptions: pd.Series) -> str | None:
    """A line about descriptions that are equal but for case and spaces, or None."""
    folded = Counter(" ".join(text.casefold().split()) for text in descriptions.dropna())
    repeated = {text: count for text, count in folded.items() if count > 1}
    if not repeated:
        return None
    most, count = max(repeated.items(), key=lambda pair: pair[1])
    shown = one_line(most if len(most) <= 60 else f"{most[:59]}…")
    rows = f"{sum(repeated.values())} of {folded.total()} descriptions"
    return f"{rows} repeat another one ({len(repeated)} texts; {count} ×: {shown})"


def mask_classes(frame: pd.DataFrame, taxonomy: Taxonomy, *, replace: bool) -> str | None:
    """A line about descriptions that name a class outright, or None; with `replace`, they no longer do."""
    masked = frame["description"].dropna().map(ClassNames(taxonomy).mask)
    labels = frame["label"][masked.index]
    line = count_namings([result.named for result in masked], list(labels), taxonomy, what="descriptions")
    if line is None:
        return None
    if not replace:
        return f"{line}; --mask-classes replaces the words"
    leaking = masked[masked.map(lambda result: bool(result.named))]
    frame.loc[leaking.index, "description"] = leaking.map(lambda result: result.text)
    places = sum(len(result.named) for result in leaking)
    return f"{line}; replaced in {places} places"


def summary(frame: pd.DataFrame, taxonomy: Taxonomy) -> str:
    """What will be trained on: patients, patches, descriptions and their mean length, by split and class."""
    words = frame["description"].map(lambda text: len(text.split()), na_action="ignore")
    rows = frame.assign(label=frame["label"].fillna(NO_LABEL), words=words)
    table = (
        pd.concat([rows, rows.assign(label=ALL)])
        .groupby(["split", "label"])
        .agg(
            patients=("patient_id", "nunique"),
            patches=("patch_id", "size"),
            described=("description", "count"),
            mean_words=("words", "mean"),
        )
    )
    # A class that a split lacks is shown too, as long as there are classes.
    classes = taxonomy.class_names if frame["label"].notna().any() else ()
    splits = [split for split in SPLITS if (split, ALL) in table.index]
    order = [(split, label) for split in splits for label in (*classes, NO_LABEL, ALL)]
    shown = table.reindex([key for key in order if key[1] != NO_LABEL or key in table.index])
    counts = ["patients", "patches", "described"]
    shown[counts] = shown[counts].fillna(0).astype(int)
    return shown.to_string(float_format="{:.1f}".format, na_rep="")
