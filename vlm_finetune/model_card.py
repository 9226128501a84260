"""The model card of a fine-tuned adapter or model, written from what was measured."""

from pathlib import Path
from typing import Any

from data.taxonomy import Taxonomy
from vlm_finetune.config import FinetuneConfig
from vlm_finetune.prompt import PatchPrompt


def adapter_card(
    config: FinetuneConfig,
    *,
    taxonomy: Taxonomy,
    prompt: PatchPrompt,
    data: dict[str, dict[str, Any]],
    metrics: dict[str, Any],
) -> str:
    """Markdown with the front matter that model hubs read; it counts patients and names none.

    Args:
        data: counts of each split, as data.json holds them.
        metrics: as metrics.json holds them.
    """
    base, whole = public_name(config.model), config.tune == "full"
    kind = "all weights" if whole else f"a {_VARIANTS[config.lora_variant]} adapter"
    library = "transformers" if whole else "peft"
    rows = [f"| {name} | {split['pairs']} | {split['patients']} |" for name, split in data.items()]
    return "\n".join(
        [
            f"---\nbase_model: {base}\nlibrary_name: {library}\npipeline_tag: image-text-to-text\n"
            "tags: [histology, image-captioning]\n---\n",
            f"# Descriptions of {taxonomy.tissue} patches\n",
            f"Describes H&E patches of {taxonomy.tissue} in the words of reports: `{base}` with {kind} trained "
            "on image–description pairs, by MMLNB (arXiv 2503.12927).\n",
            "**For research use only. Not a medical device; not for diagnosis.**\n",
            "## Intended use\n",
            f"One patch, resized to {prompt.image_px} × {prompt.image_px} px, and the question it was trained with "
            "(prompt.json); other questions and other sizes are refused by `mmlnb caption`. The descriptions are one "
            "input of a classifier in research; each is to be read beside its patch.\n",
            f"- system: {prompt.system or '(none)'}\n- question: {prompt.question}\n",
            "## Data\n",
            "| split | pairs | patients |\n|---|---|---|",
            *rows,
            "",
            "## Settings\n",
            f"- {_settings(config)}",
            f"- {config.epochs:g} epochs, AdamW at {config.learning_rate:g} ({config.schedule}, warm-up "
            f"{config.warmup_share:g}), batch {config.batch_size} × accumulation {config.accumulation} per device, "
            f"seed {config.seed}\n",
            "## Figures\n",
            _figures(metrics),
            "## Limits\n",
            "A fluent description is not a correct one: the model may state what is not there and leave out what is. "
            "The figures hold for tissue like that of the training patients; scanners, stains and sites that they did "
            "not bring may give worse results without any sign of it.\n",
        ]
    )


def public_name(model: str) -> str:
    """Name of a base model as others may read it: of a folder its own name, not where it lies on this machine."""
    return Path(model).name if Path(model).is_dir() else model


_VARIANTS = {"lora": "LoRA", "dora": "DoRA", "rslora": "rsLoRA"}


def _settings(config: FinetuneConfig) -> str:
    if config.tune == "full":
        return "all weights trained"
    parts = [f"language model, rank {config.lora_rank}"]
    for name, adapted, rank in (
        ("vision tower", config.lora_vision, config.lora_vision_rank),
        ("projector", config.lora_projector, config.lora_projector_rank),
    ):
        parts += [f"{name}, rank {rank or config.lora_rank}"] if adapted else []
    base = ", base in 4 bits (NF4)" if config.quantise == "4bit" else ""
    return (
        f"{_VARIANTS[config.lora_variant]} on {'; '.join(parts)}; alpha {config.lora_alpha:g}, dropout "
        f"{config.lora_dropout:g}{base}"
    )


def _figures(metrics: dict[str, Any]) -> str:
    val, kept = metrics["val"], metrics["kept"]
    if val is None:
        return "None: the manifest had no validation pairs.\n"
    f1 = "not defined" if val["macro_f1"] is None else f"{val['macro_f1']:.3f}"
    lines = [
        f"Validation patients, {kept['which']} evaluation (step {kept['step']}): loss {val['loss']:.3f}, finding "
        f"macro-F1 {f1} on {val['described']} described patches.\n"
    ]
    if val["per_finding"]:
        lines += ["| finding | macro-F1 |\n|---|---|"]
        lines += [f"| {name} | {score:.2f} |" for name, score in val["per_finding"].items()]
        lines.append("")
    return "\n".join(lines)
