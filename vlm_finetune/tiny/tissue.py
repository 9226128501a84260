"""Synthetic tissue that the embedded model learns from: many patients, every finding, at the model's size."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context

import cv2
import numpy as np
import torch

from data.synthetic.amounts import draw_findings
from data.synthetic.style import draw_style
from data.synthetic.tissue import render_patch
from data.taxonomy import Taxonomy, load_taxonomy
from vlm_finetune.prompt import PatchPrompt

TAXONOMY = "neuroblastic-tumours"
"""The taxonomy with the most classes; those of the others are among them."""
_PATCH_PX, _MPP = 224, 0.5
_PER_PATIENT = 8
_EVEN_SHARE = 0.5
"""Share of the patches on which every value that occurs in the class is as likely as any other, so that rare ones are
learnt as well and findings are harder to guess from one another."""


@dataclass(frozen=True)
class TissueSet:
    """Patches and what was drawn in them."""

    images: np.ndarray
    """RGB uint8 (N, image_px, image_px, 3)."""
    findings: list[dict[str, str]]

    def targets(self, taxonomy: Taxonomy) -> torch.Tensor:
        """Index of the value of each finding, (N, findings), in the order of the taxonomy."""
        order = {name: list(finding.values) for name, finding in taxonomy.findings.items()}
        return torch.tensor([[values.index(row[name]) for name, values in order.items()] for row in self.findings])


def draw_tissue(count: int, *, image_px: int, seed: int, workers: int = 2) -> TissueSet:
    """Draw `count` patches of patients that no other seed gives, resized to `image_px`."""
    patients = -(-count // _PER_PATIENT)
    # Not forked: a child of a process with threads may wait for ever for a lock that one of them held.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        drawn = list(pool.map(partial(_patient, image_px=image_px, seed=seed), range(patients), chunksize=8))
    images = np.concatenate([images for images, _ in drawn])[:count]
    return TissueSet(images=images, findings=[row for _, rows in drawn for row in rows][:count])


def _patient(index: int, *, image_px: int, seed: int) -> tuple[np.ndarray, list[dict[str, str]]]:
    cv2.setNumThreads(1)
    taxonomy = load_taxonomy(TAXONOMY)
    # The first word keeps these patients apart from those of any other use of the same seed.
    rng = np.random.default_rng([0x7117, seed, index])
    style = draw_style(rng)
    resize = PatchPrompt(system="", question="", image_px=image_px).resize
    images, findings = [], []
    for _ in range(_PER_PATIENT):
        row = _draw_row(taxonomy, rng)
        patch = render_patch(row, taxonomy=taxonomy, style=style, size_px=_PATCH_PX, mpp=_MPP, rng=rng)
        images.append(resize(patch))
        findings.append(row)
    return np.stack(images), findings


def _draw_row(taxonomy: Taxonomy, rng: np.random.Generator) -> dict[str, str]:
    # Half of the patches show the classes of the default taxonomy, which most users start from.
    classes = load_taxonomy().class_names if rng.random() < 0.5 else taxonomy.class_names
    subtype = taxonomy.classes[str(rng.choice(classes))]
    if rng.random() < _EVEN_SHARE:
        even = {
            name: dict.fromkeys((value for value, share in values.items() if share > 0), 1.0)
            for name, values in subtype.synthetic.items()
        }
        subtype = replace(subtype, synthetic=even)
    return draw_findings(subtype, taxonomy, rng)
