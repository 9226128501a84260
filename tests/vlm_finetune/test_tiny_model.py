"""The embedded model: small, real, and describing tissue in words of its own."""

import numpy as np
import pytest

from data.findings import read_findings
from data.synthetic.amounts import draw_findings
from data.synthetic.describe import describe
from data.taxonomy import load_taxonomy
from vlm_finetune.captioner import Captioner
from vlm_finetune.finding_scores import finding_macro_f1
from vlm_finetune.model import find_model
from vlm_finetune.tiny.tissue import TAXONOMY, draw_tissue
from vlm_finetune.tiny.wording import load_plain_words, plain_caption, read_plain, rewriting

ALL = load_taxonomy(TAXONOMY)


def test_plain_captions_carry_every_finding_and_no_term_of_a_report() -> None:
    words = load_plain_words(ALL)
    rng = np.random.default_rng(0)
    for subtype in ALL.classes.values():
        for _ in range(10):
            findings = draw_findings(subtype, ALL, rng)
            caption = plain_caption(findings, words)
            assert read_plain(caption, words) == findings
            assert read_findings(caption, ALL) == {}


def test_what_is_rewritten_as_a_report_states_the_same_findings() -> None:
    words = load_plain_words(ALL)
    rng = np.random.default_rng(0)
    for _ in range(50):
        question, report = rewriting(ALL, words, rng)
        assert read_findings(report, ALL) == read_plain(question.partition(": ")[2], words)


def test_tissue_of_the_same_seed_is_the_same_and_of_another_differs() -> None:
    first, again, other = (draw_tissue(8, image_px=56, seed=seed, workers=1) for seed in (1, 1, 2))
    assert np.array_equal(first.images, again.images)
    assert first.findings == again.findings
    assert not np.array_equal(first.images, other.images)


def test_the_weights_fit_in_a_wheel() -> None:
    folder = find_model("tiny")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 12e6
    assert (folder / "README.md").read_text().startswith("---\nlicense: apache-2.0")


@pytest.fixture(scope="module")
def described() -> tuple[list[dict[str, str]], list[str]]:
    """Findings drawn in 64 patches of patients that the model has not seen, and what it says of them."""
    tissue = draw_tissue(64, image_px=112, seed=99, workers=1)
    captions = Captioner(model="tiny", device="cpu").describe(list(tissue.images))
    return tissue.findings, [caption.text for caption in captions]


def test_the_base_sees_the_findings(described: tuple[list[dict[str, str]], list[str]]) -> None:
    findings, texts = described
    words = load_plain_words(ALL)
    assert finding_macro_f1(findings, [read_plain(text, words) for text in texts], ALL).macro_f1 > 0.7


def test_the_base_does_not_write_reports(described: tuple[list[dict[str, str]], list[str]]) -> None:
    findings, texts = described
    assert finding_macro_f1(findings, [read_findings(text, ALL) for text in texts], ALL).macro_f1 < 0.2


def test_the_tokenizer_gives_words_of_reports_back_unchanged() -> None:
    from transformers import AutoProcessor

    tokenizer = AutoProcessor.from_pretrained(find_model("tiny")).tokenizer
    rng = np.random.default_rng(1)
    text = describe(draw_findings(ALL.classes["PD"], ALL, rng), ALL, rng) + " Naïve – 5 % µm."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
