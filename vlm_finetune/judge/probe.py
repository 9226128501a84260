"""How much of the class is in the text alone: a linear classifier of its words, tested on unseen patients."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vlm_finetune.judge.bootstrap import Estimate, Resampler, divide
from vlm_finetune.judge.statements import mean_of_defined

_FOLDS = 5


@dataclass(frozen=True)
class Probe:
    """Balanced accuracy of the probe, or why there is none."""

    balanced_accuracy: Estimate
    chance: float | None = None
    patches: int = 0
    classes: tuple[str, ...] = ()
    folds: int = 0
    reason: str | None = None
    """Why it could not be run."""


def probe_texts(texts: Sequence[str | None], labels: Sequence[str | None], resampler: Resampler) -> Probe:
    """Cross-validate TF-IDF with logistic regression, patients apart, over the rows with a text and a label.

    Classes with a single patient cannot be both learnt and tested, and are left out.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline

    patients = np.asarray(resampler.patients, dtype=str)
    usable = np.array([bool(text) and label is not None for text, label in zip(texts, labels, strict=True)], dtype=bool)
    classes = np.array([str(label) for label in labels])
    spread = {name: len(set(patients[usable & (classes == name)])) for name in sorted(set(classes[usable]))}
    kept = tuple(name for name, count in spread.items() if count > 1)
    if len(kept) < 2:
        return Probe(Estimate(None), reason="it needs two classes, each with the texts of two patients")
    chosen = np.flatnonzero(usable & np.isin(classes, kept))
    words = np.array([str(text) for text in texts], dtype=object)[chosen]
    folds = min(_FOLDS, *(spread[name] for name in kept))
    predicted = np.empty(len(chosen), dtype=object)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=resampler.seed)
    for train, test in splitter.split(words, classes[chosen], groups=patients[chosen]):
        if len(set(classes[chosen][train])) < 2:
            return Probe(Estimate(None), reason="too few patients: one fold would learn from a single class")
        model = make_pipeline(
            # Signs count as words, so that no text is without any.
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]"),
            LogisticRegression(max_iter=1000, class_weight="balanced"),
        )
        predicted[test] = model.fit(words[train], classes[chosen][train]).predict(words[test])
    true = classes[chosen][:, None] == np.array(kept)
    right = true & (predicted == classes[chosen])[:, None]
    tested = replace(resampler, patients=patients[chosen].tolist())
    return Probe(
        balanced_accuracy=tested.estimate(np.concatenate([right, true], axis=1), _balanced_accuracy),
        chance=1 / len(kept),
        patches=len(chosen),
        classes=kept,
        folds=folds,
    )


def _balanced_accuracy(sums: np.ndarray) -> np.ndarray:
    """Mean recall over the classes that occur, from right and all answers per class (..., 2 C)."""
    right, all_of = np.split(sums, 2, axis=-1)
    return mean_of_defined(divide(right, all_of))
