"""The model card of a bundle, written from what was measured."""

from typing import Any

from data.taxonomy import Taxonomy

ARMS = ("image_only", "text_only", "fused")


def model_card(
    taxonomy: Taxonomy, metrics: dict[str, Any], *, model: str, mpp: float, tile_px: int, notice: str
) -> str:
    """Markdown: what the bundle is, on what it was measured, and what it must not be used for."""
    classes = "\n".join(f"- **{subtype.name}**: {subtype.title}" for subtype in taxonomy.classes.values())
    rows = "\n".join(
        f"| {arm.replace('_', ' ')} | {_figure(metrics[arm]['balanced_accuracy'])} | {_figure(metrics[arm]['auroc'])} |"
        for arm in ARMS
    )
    return f"""# MMLNB bundle: {taxonomy.name}

Calls a subtype from an H&E slide and writes down the findings behind the call. Method: MMLNB (arXiv 2503.12927).

**For research use only. Not a medical device; not for diagnosis.** {notice}

{classes}

- Base vision-language model: `{model}`, with the LoRA adapter in `adapter/`
- Patches: {tile_px} px at {mpp:g} µm per pixel
- Measured on the split `{metrics["split"]}`: {metrics["fused"]["patches"]} patches of {metrics["patients"]}
  patients

| arm | balanced accuracy | AUROC |
|---|---|---|
{rows}

Limits: the figures hold for tissue like that of the training manifest; scanners, stains and sites that it did not
contain may give worse results without any sign of it.
"""


def _figure(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
