"""The words of the embedded model: everyday ones for what it sees, and those of reports only when asked to rewrite."""

from collections.abc import Iterator
from importlib import resources

import numpy as np
import yaml

from data.errors import InputError
from data.synthetic.amounts import draw_findings
from data.synthetic.describe import describe
from data.taxonomy import Taxonomy
from vlm_finetune.prompt import PatchPrompt

PlainWords = dict[str, dict[str, str]]
"""Finding name to value name to phrase, in the order in which a caption states them."""

_SYSTEMS = ("You are a pathologist specialised in {tissue}.", "You are a careful observer.", "")
_QUESTIONS = (
    "Describe what is seen microscopically on this {tissue} image.",
    "Describe this image of {tissue}.",
    "What does this patch show?",
)


def load_plain_words(taxonomy: Taxonomy) -> PlainWords:
    """Phrases of plain_words.yaml, checked to cover every value of every finding of `taxonomy`."""
    source = resources.files("vlm_finetune.tiny") / "plain_words.yaml"
    words: PlainWords = yaml.safe_load(source.read_text(encoding="utf-8"))
    for name, finding in taxonomy.findings.items():
        for value in finding.values:
            if not words.get(name, {}).get(value):
                raise InputError(f"{source}: no phrase for {name}/{value}; add one")
    return words


def plain_caption(findings: dict[str, str], words: PlainWords) -> str:
    """What the base says of a patch with `findings`: one sentence, always in the same order."""
    return ", ".join(words[name][findings[name]] for name in words) + "."


def read_plain(caption: str, words: PlainWords) -> dict[str, str]:
    """Findings stated in a caption written by `plain_caption`; phrases that it garbles are left out."""
    stated = set(caption.removesuffix(".").split(", "))
    return {name: value for name, values in words.items() for value, phrase in values.items() if phrase in stated}


def prompts(tissues: list[str], *, image_px: int) -> list[PatchPrompt]:
    """Prompts that the base is trained to answer, the default one first."""
    return [
        PatchPrompt(
            system=system.replace("{tissue}", tissue), question=question.replace("{tissue}", tissue), image_px=image_px
        )
        for tissue in [*tissues, "tissue"]
        for system in _SYSTEMS
        for question in _QUESTIONS
    ]


def rewriting(taxonomy: Taxonomy, words: PlainWords, rng: np.random.Generator) -> tuple[str, str]:
    """A question and its answer, without an image: a plain caption to be rewritten in the words of reports.

    So the base knows the language of reports, as a large model does, but does not use it of its own accord.
    """
    subtype = taxonomy.classes[str(rng.choice(taxonomy.class_names))]
    findings = draw_findings(subtype, taxonomy, rng)
    return f"Rewrite as a report: {plain_caption(findings, words)}", describe(findings, taxonomy, rng)


def tokenizer_texts(taxonomy: Taxonomy, words: PlainWords, *, seed: int) -> Iterator[str]:
    """Texts with every word that prompts, plain captions and reports use."""
    rng = np.random.default_rng(seed)
    for _ in range(2000):
        yield " ".join(rewriting(taxonomy, words, rng))
    for prompt in prompts([taxonomy.tissue], image_px=28):
        yield f"system\n{prompt.system}\nuser\n{prompt.question}\nassistant\n"
