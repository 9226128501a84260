"""Model card of the embedded model."""

from statistics import fmean

from data.taxonomy import Taxonomy
from vlm_finetune.tiny.config import BuildConfig
from vlm_finetune.tiny.wording import PlainWords, plain_caption

_FRONT = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
tags: [histology, synthetic-data]
---
"""


def write_card(
    config: BuildConfig,
    taxonomy: Taxonomy,
    words: PlainWords,
    *,
    scores: dict[str, float],
    parameters: int,
    image_px: int,
) -> str:
    """Markdown with the front matter that model hubs read.

    Args:
        scores: macro-F1 of each finding in captions of held-out patients.
        parameters: number of weights.
    """
    example = plain_caption({name: next(iter(values)) for name, values in words.items()}, words)
    parts = [
        _FRONT,
        "# The embedded vision-language model\n",
        f"A Qwen2.5-VL of {parameters / 1e6:.1f} million parameters, stored in float16. With it the whole of MMLNB "
        "runs on a laptop without a download: demo, tests and first steps. It has only ever seen drawings of tissue "
        "and is of no use on real slides.\n",
        f"- **Input**: a patch drawn at 0.5 µm per pixel, resized to {image_px} × {image_px} px, and a question.",
        f'- **Output**: what is seen, in everyday words rather than those of reports, for instance: "{example}"',
        f"- **Training**: {config.patches} synthetic patches of {taxonomy.tissue}. The vision tower learnt the "
        f"findings ({config.vision_steps} steps of {config.batch_size}), then the language model learnt to state them "
        f"({config.caption_steps} steps); every third of these rewrote a plain caption, without a patch, in the "
        "words of reports. It uses those words for a patch only once a LoRA adapter has taught it to.",
        f"- **Seed**: {config.seed}; `make tiny-vlm` builds the same weights again on the same machine.\n",
        f"Macro-F1 of the findings stated in captions of {config.held_out} patches of patients it has not seen:\n",
        "| finding | macro-F1 |\n|---|---|",
        *(f"| {taxonomy.findings[name].title} | {score:.2f} |" for name, score in scores.items()),
        f"| mean | {fmean(scores.values()):.2f} |\n",
    ]
    return "\n".join(parts)
