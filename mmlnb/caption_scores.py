"""How well captions state the findings that are known to be there."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.atomic import write_json
from data.findings import read_findings
from data.manifest import read_manifest
from data.taxonomy import Taxonomy
from vlm_finetune.caption import read_captions
from vlm_finetune.finding_scores import FindingScores, finding_macro_f1


def score_captions(manifest: Path, captions: Path, *, split: str, taxonomy: Taxonomy) -> FindingScores:
    """Finding macro-F1 of the `captions` of one split, over its patches with known findings.

    A patch without a caption counts as one in which nothing was stated.
    """
    rows = read_manifest(manifest)
    rows = rows[(rows["split"] == split) & rows["findings"].notna()]
    texts = read_captions(captions).set_index("patch_id")["text"]
    stated = [read_findings(str(texts.get(patch) or ""), taxonomy) for patch in rows["patch_id"]]
    return finding_macro_f1(list(rows["findings"]), stated, taxonomy)


def write_caption_scores(path: Path, **scores: FindingScores) -> None:
    """Write the scores of several models, by name, as JSON."""
    write_json(path, {name: asdict(score) for name, score in scores.items()})


def read_caption_scores(path: Path) -> dict[str, Any]:
    """Read what `write_caption_scores` wrote."""
    return dict(json.loads(path.read_text(encoding="utf-8")))
