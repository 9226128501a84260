"""The model card of a bundle, written from what was measured, with the front matter that model hubs read."""

from collections.abc import Mapping
from typing import Any

from data.taxonomy import Taxonomy
from vlm_finetune.model_card import public_name

ARMS = ("image_only", "text_only", "fused")
MEASURES = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC", "macro_f1": "macro-F1"}
TAGS = ["histology", "pathology", "whole-slide-image", "vision-language", "mmlnb"]


def model_card(
    taxonomy: Taxonomy,
    metrics: Mapping[str, Any],
    *,
    model: str,
    mpp: float,
    tile_px: int,
    notice: str,
    licence: str,
    training_data: str,
    counts: Mapping[str, tuple[int, int]],
) -> str:
    """Markdown: what the bundle is, on what it was measured, what it is for and what it must not be used for.

    Args:
        taxonomy: of the bundle.
        metrics: as `evaluate` writes them.
        model: base vision-language model.
        mpp: µm per pixel of the patches.
        tile_px: their side in pixels.
        notice: what every output made with the bundle says.
        licence: as the hub spells it.
        training_data: where the data come from, in the words of who made the bundle.
        counts: split to the number of its patches and patients; empty where it is not known.
    """
    base = public_name(model)
    classes = [f"- **{subtype.name}**: {subtype.title}" for subtype in taxonomy.classes.values()]
    return "\n".join(
        [
            f"---\n{_front_matter(taxonomy, metrics, base=base, licence=licence)}\n---\n",
            f"# MMLNB bundle: {taxonomy.name}\n",
            "Calls a subtype from an H&E slide and writes down the findings behind the call. Method: MMLNB (arXiv "
            "2503.12927).\n",
            f"**For research use only. Not a medical device; not for diagnosis.** {notice}".rstrip() + "\n",
            *classes,
            "",
            f"- Base vision-language model: `{base}`, with the LoRA adapter in `adapter/`",
            f"- Patches: {tile_px} px at {mpp:g} µm per pixel",
            "- Weights are safetensors; there is no pickle and no code in it.\n",
            "## How to use it\n",
            "```\nmmlnb bundle pull OWNER/NAME bundle\nmmlnb infer SLIDES OUT --bundle bundle\n```\n",
            '```python\nfrom mmlnb import Pipeline\n\npipeline = Pipeline.from_pretrained("bundle")\nresult = '
            'pipeline("slide.svs")\n```\n',
            "## Intended use\n",
            f"Research on H&E slides of {taxonomy.tissue}: a call for each slide, with findings that can be checked "
            "patch by patch. Each call is to be read beside its slide, by somebody who could make it. Not intended: "
            "diagnosis, treatment, triage, other tissue, other stains, and any use where nobody looks at the slide.\n",
            "## Training data\n",
            _training_data(training_data, counts),
            "## Figures\n",
            *_figures(metrics),
            "## Limits\n",
            "- The figures hold for tissue like that of the training manifest; scanners, stains and sites that it did "
            "not contain may give worse results without any sign of it.",
            "- A fluent description is not a correct one: it may state what is not there and leave out what is.",
            "- Whatever a slide shows, one of the classes above is called; tissue of another kind is not recognised as "
            "such.\n",
            "## Licence\n",
            f"`{licence}`. The base model has a licence of its own.\n",
        ]
    )


def _front_matter(taxonomy: Taxonomy, metrics: Mapping[str, Any], *, base: str, licence: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    name = f"mmlnb-{taxonomy.name}"
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="manifest",
            dataset_name=f"patches of {taxonomy.tissue}",
            dataset_split=metrics["split"],
            metric_type=measure,
            metric_name=f"{title}, image and text",
            metric_value=round(metrics["fused"][measure], 4),
        )
        for measure, title in MEASURES.items()
        if metrics["fused"].get(measure) is not None
    ]
    # A name without an owner is embedded in the package, or a folder: nothing that the hub could link.
    card = ModelCardData(
        license=licence,
        library_name="mmlnb",
        pipeline_tag="image-classification",
        tags=TAGS,
        base_model=base if base.count("/") == 1 else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return card.to_yaml().strip()


def _training_data(text: str, counts: Mapping[str, tuple[int, int]]) -> str:
    lines = [text] if text else []
    if counts:
        rows = [f"| {split} | {patches} | {patients} |" for split, (patches, patients) in counts.items()]
        lines.append("\n".join(["| split | patches | patients |", "|---|---|---|", *rows]))
    return "\n\n".join(lines or ["Not recorded: ask who made the bundle."]) + "\n"


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    """One table on patches, and one on slides where these were measured."""
    measured = metrics["fused"]["patches"]
    unseen = ", on which nothing was trained or chosen" if metrics["split"] == "test" else ""
    lines = [f"Split `{metrics['split']}`: {measured} patches of {metrics['patients']} patients{unseen}.\n"]
    lines += _table({arm.replace("_", " "): metrics[arm] for arm in ARMS})
    lines.append("In brackets the 95 % interval, by bootstrap over patients.\n")
    if slides := metrics.get("slides"):
        called = slides["aggregations"]["tissue_weighted"]
        lines.append(f"The same by slide, {slides['count']} of them:\n")
        lines += _table({arm.replace("_", " "): called[arm] for arm in ARMS})
    return lines


def _table(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [
        f"| {arm} | " + " | ".join(_figure(found, measure) for measure in MEASURES) + " |"
        for arm, found in arms.items()
    ]
    return [f"| arm | {' | '.join(MEASURES.values())} |", "|---" * (len(MEASURES) + 1) + "|", *rows, ""]


def _figure(found: Mapping[str, Any], measure: str) -> str:
    value = found.get(measure)
    if value is None:
        return "not defined"
    interval = (found.get("intervals") or {}).get(measure)
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
