"""What any choice of patches to describe would have given, from slides of which all patches were described once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import balanced_accuracy_score

from data.taxonomy import Taxonomy
from fusion.aggregate import aggregate
from fusion.predictor import Predictor
from mmlnb.caption_budget import CaptionBudget
from mmlnb.caption_choice import STRATEGIES, Candidates
from mmlnb.chosen_captions import CaptionChoice, ChosenCaptions
from mmlnb.findings_profile import findings_profile, read_stated

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.5)
SIMILARITIES = (None, 0.9, 0.8, 0.6, -1.0)
"""Of image features, from which text is borrowed; None for never, -1 for always."""
BORROWING_AT = 0.1
"""Share of the patches at which ways of borrowing are compared."""
RANDOM_DRAWS = 10


@dataclass(frozen=True, eq=False)
class KnownSlide:
    """A slide of N patches with all their captions; that of a patch does not depend on the patches beside it."""

    name: str
    label: int
    """Index of the class that was drawn, in every part of the slide."""
    candidates: Candidates
    fused: np.ndarray
    """Probabilities (N, classes) with the patch's own caption."""
    without: np.ndarray
    """Of the same branch with the text missing (N, classes)."""
    texts: list[str | None]
    profile: np.ndarray
    """Share of each value of each finding over all patches, and of its not being stated."""


def read_known(out: Path, *, truth: Path, taxonomy: Taxonomy, predictor: Predictor) -> Iterator[KnownSlide]:
    """What a run over a synthetic cohort with all captions and with features (`--hdf5`) left in `out`."""
    labels = pd.read_csv(truth, dtype={"slide": str}).set_index("slide")["label"]
    names = taxonomy.class_names
    for name, label in labels.items():
        rows = pd.read_parquet(out / "predictions" / f"{name}.parquet")
        with h5py.File(out / "hdf5" / f"{name}.h5", "r") as file:
            places = pd.MultiIndex.from_arrays(file["coords"][...].reshape(-1, 2).T)
            features = file["features"][...].reshape(len(places), -1)
        features = features[places.get_indexer(pd.MultiIndex.from_frame(rows[["x", "y"]]))]
        texts = list(rows["text"].astype(object).where(rows["captioned"], None))
        without = predictor.predict_features(torch.from_numpy(features.astype(np.float32)), [None] * len(rows))
        yield KnownSlide(
            name=str(name),
            label=names.index(label),
            candidates=Candidates(
                features=features,
                probabilities=rows[[f"image_p_{one}" for one in names]].to_numpy(),
                # As the tiles have it: the file keeps float32.
                tissue=rows["tissue"].to_numpy().astype(np.float64),
            ),
            fused=rows[[f"p_{one}" for one in names]].to_numpy(),
            without=without.fused,
            texts=texts,
            profile=profile(texts, taxonomy),
        )


def profile(texts: Sequence[str | None], taxonomy: Taxonomy, weights: np.ndarray | None = None) -> np.ndarray:
    """Share of every value of every finding, and of its not being stated."""
    shares: list[float] = []
    for finding in findings_profile(read_stated(texts, taxonomy), taxonomy, weights=weights):
        values = list(finding.values.values())
        shares += [*values, 1 - sum(values)]
    return np.array(shares)


def derive(one: KnownSlide, chosen: ChosenCaptions, predictor: Predictor) -> tuple[np.ndarray, list[str | None]]:
    """Probabilities (N, classes) of the slide where only the chosen patches are described, and their captions."""
    own = chosen.order >= 0
    fused = np.where(own[:, None], one.fused, one.without)
    if (borrowed := np.flatnonzero(chosen.borrowed)).size:
        features = torch.from_numpy(one.candidates.features[borrowed].astype(np.float32))
        words = [one.texts[index] for index in chosen.source[borrowed]]
        fused[borrowed] = predictor.predict_features(features, words).fused
    return fused, [text if mine else None for text, mine in zip(one.texts, own, strict=True)]


def borrow_name(choice: CaptionChoice) -> str:
    """How the table names the way of borrowing."""
    return "none" if choice.borrow_similarity is None else f"from {choice.borrow_similarity:g}"


def compare(known: Sequence[KnownSlide], predictor: Predictor, taxonomy: Taxonomy) -> pd.DataFrame:
    """One row per share of patches, strategy and way of borrowing."""
    rows = []
    for fraction in FRACTIONS:
        for strategy in STRATEGIES:
            for least in SIMILARITIES if fraction == BORROWING_AT else (None,):
                choice = CaptionChoice(CaptionBudget(fraction=fraction), strategy, least)
                draws = RANDOM_DRAWS if strategy == "random" and least is None else 1
                scores = [score(choice, known, predictor, taxonomy, draw=draw) for draw in range(draws)]
                means = pd.DataFrame(scores).mean().to_dict()
                rows.append({"fraction": fraction, "choose": strategy, "borrow": borrow_name(choice), **means})
    return pd.DataFrame(rows)


def score(
    choice: CaptionChoice, known: Sequence[KnownSlide], predictor: Predictor, taxonomy: Taxonomy, *, draw: int = 0
) -> dict[str, float]:
    """Accuracy of slides and patches, and how far the findings are from those over all patches.

    `draw` is which of several random choices is taken: a single one says little.
    """
    rows, calls, fused = [], [], []
    for one in known:
        order = choice.choose(one.candidates)
        if draw:
            order = np.random.default_rng(draw).permutation(len(one.candidates))[: len(order)]
        chosen = choice.share_out(one.candidates, order.tolist())
        probabilities, texts = derive(one, chosen, predictor)
        calls.append(aggregate(probabilities, one.candidates.tissue).called == one.label)
        fused.append(probabilities)
        rows.append(
            {
                "findings_profile_error": np.abs(profile(texts, taxonomy, chosen.weights) - one.profile).mean(),
                "unweighted_error": np.abs(profile(texts, taxonomy) - one.profile).mean(),
                "borrowed": chosen.borrowed.mean(),
            }
        )
    return {
        "slide_accuracy": float(np.mean(calls)),
        "patch_balanced_accuracy": patch_accuracy(known, fused),
        **pd.DataFrame(rows).mean().to_dict(),
    }


def patch_accuracy(known: Sequence[KnownSlide], fused: Sequence[np.ndarray]) -> float:
    """Balanced accuracy over the patches of all slides, each of which has the class of its slide."""
    labels = np.repeat([one.label for one in known], [len(one.texts) for one in known])
    return float(balanced_accuracy_score(labels, np.concatenate(fused).argmax(axis=1)))
