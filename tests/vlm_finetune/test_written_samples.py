"""What a fine-tuning wrote about its samples can be read again, whatever the model wrote."""

from pathlib import Path

import pytest

from data.errors import InputError
from vlm_finetune.decoding import Caption
from vlm_finetune.finding_scores import FindingScores
from vlm_finetune.pairs import Pair
from vlm_finetune.samples import Samples
from vlm_finetune.written_samples import read_samples

HOSTILE = (
    "Scant neuropil.",
    "a | b\nc\rd\u2028e",
    "<script>alert('|')</script> & <br> `code` \\| \\n",
    "| x | y |",
    " ",
)


def test_samples_are_read_as_they_were_written(tmp_path: Path) -> None:
    pairs = [
        Pair(
            patch_id=f"P1/a b {n} | <x>.jpg",
            patient_id="P1",
            image=tmp_path / "ü #1" / f"{n}.jpg",
            description=text,
            findings={},
        )
        for n, text in enumerate(HOSTILE)
    ]
    captions = [Caption(text=text, tokens=1, mean_logprob=0.0) for text in reversed(HOSTILE)]
    scores = FindingScores(macro_f1=0.5, per_finding={})
    path = tmp_path / "run" / "samples" / "step-000007.md"
    Samples(step=7, pairs=pairs, captions=captions, scores=scores).write(path)
    step, rows = read_samples(path)
    assert step == 7
    assert [(row.patch_id, row.reference, row.written) for row in rows] == [
        (pair.patch_id, pair.description, caption.text) for pair, caption in zip(pairs, captions, strict=True)
    ]
    assert [row.picture.resolve() for row in rows] == [pair.image.resolve() for pair in pairs]


def test_a_file_that_holds_no_samples_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Notes\n")
    with pytest.raises(InputError, match=r"a\.md: not a table of samples"):
        read_samples(tmp_path / "a.md")
