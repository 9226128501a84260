"""Who of a synthetic cohort is tested, and wrong labels for those who are not."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from data.split import assign_splits
from data.synthetic.config import SynthConfig

VAL_FRACTION, TEST_FRACTION = 0.15, 0.25
_NOISE = 4
"""First word of the seed of the label noise."""


def site_name(number: int) -> str:
    """Name of a site, `number` counted from 0."""
    return f"site-{number + 1}"


def split_patients(labels: pd.DataFrame, config: SynthConfig) -> pd.Series:
    """One of train, val, test per row; the patients of the sites that are held out are test, and no others then.

    Raises:
        InputError: fewer than three patients to deal.
    """
    source = config.out / "labels.csv"
    held_out = [site_name(config.sites - 1 - back) for back in range(config.held_out_sites)]
    known = ~labels["site"].isin(held_out) if held_out else np.ones(len(labels), dtype=bool)
    split = pd.Series("test", index=labels.index)
    dealt = assign_splits(
        labels[known], val_fraction=VAL_FRACTION, test_fraction=TEST_FRACTION, seed=config.seed, source=source
    )
    split[known] = dealt.replace("test", "train") if held_out else dealt
    return split


def add_label_noise(labels: pd.DataFrame, config: SynthConfig, *, classes: Sequence[str]) -> pd.DataFrame:
    """`labels` with another class, any of them alike, on a share of the rows that are not tested, and true_label."""
    rng = np.random.default_rng([config.seed, _NOISE])
    rows = np.flatnonzero(labels["split"] != "test")
    wrong = np.sort(rng.permutation(rows)[: round(config.label_noise * len(rows))])
    places = labels["label"].map(list(classes).index).to_numpy()
    noisy = places.copy()
    noisy[wrong] = (places[wrong] + rng.integers(1, len(classes), size=len(wrong))) % len(classes)
    return labels.assign(label=[classes[place] for place in noisy], true_label=labels["label"])
