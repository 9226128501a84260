"""Captions against what a person wrote of the same patch: BLEU, chrF and ROUGE-L."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlm_finetune.judge.bootstrap import Estimate, Resampler, ratio
from vlm_finetune.judge.rows import JudgedRow


@dataclass(frozen=True)
class ReferenceScores:
    """Likeness to the references, over the patches that have one; a missing caption counts as an empty one."""

    patches: int
    bleu: float
    """BLEU of the corpus, 0 to 100 (Papineni et al. 2002)."""
    bleu_signature: str
    """How sacrebleu computed it (Post 2018)."""
    chrf: float
    """chrF2 of the corpus, 0 to 100 (Popović 2015)."""
    chrf_signature: str
    rouge_l: Estimate
    """Mean F-measure of the longest common subsequence, 0 to 1 (Lin 2004)."""


def score_references(rows: Sequence[JudgedRow], resampler: Resampler) -> ReferenceScores | None:
    """Scores of the captions of `rows`; None where no row has a reference."""
    pairs = [(row.text, row.reference) for row in rows if row.reference is not None]
    if not pairs:
        return None
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    texts, references = ([pair[side] for pair in pairs] for side in (0, 1))
    bleu, chrf = BLEU(), CHRF()
    bleu_score, chrf_score = (metric.corpus_score(texts, [references]).score for metric in (bleu, chrf))
    scorer = RougeScorer(["rougeL"])
    rouge = np.array([[scorer.score(r, text)["rougeL"].fmeasure, 1.0] for text, r in pairs])
    added = np.zeros((len(rows), 2))
    added[[row.reference is not None for row in rows]] = rouge
    return ReferenceScores(
        patches=len(pairs),
        bleu=float(bleu_score),
        bleu_signature=str(bleu.get_signature()),
        chrf=float(chrf_score),
        chrf_signature=str(chrf.get_signature()),
        rouge_l=resampler.estimate(added, ratio),
    )
