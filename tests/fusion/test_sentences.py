"""Sentences change places while the text tower trains, and nothing of a text is lost."""

import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from small_encoders import small

from fusion.config import TrainConfig
from fusion.curriculum import Stage
from fusion.sentences import reorder, sentence_bounds
from fusion.tokens import train_word_pieces, word_pieces
from fusion.tower import Tokenizer
from fusion.towers import find_tower, load_text_tower
from fusion.train import train

SENTENCES = ("Sheets of cells with approx. 30.5 % necrosis.", "No neuropil, e.g. fibrils!", "Rosettes?", "Large cells")
TEXT = f"{SENTENCES[0]} {SENTENCES[1]} {SENTENCES[2]}\n{SENTENCES[3]}"
JOINT = (Stage(name="joint", epochs=1),)
FROZEN = (Stage(name="image", epochs=1, freeze=("text",)),)


@pytest.fixture(scope="module", params=["bert-base-uncased", "plip", "quiltnet-b-32", "biomedclip"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Tokenizers of transformers and of open_clip; the latter fill up to their full length."""
    record = small(find_tower(request.param, modality="text"), tmp_path_factory.mktemp("tower") / "model")
    return load_text_tower(record, texts=[]).tokenizer


def changed(tokenizer: Tokenizer, text: str, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Tokens of `text`, its bounds, and its tokens with the sentences in another order."""
    ids = tokenizer.encode([text])
    bounds = sentence_bounds(tokenizer, [text], ids)
    return ids[0], bounds[0], reorder(ids[0], bounds[0], seed)


def test_another_order_keeps_every_token_and_every_sentence_whole(tokenizer: Tokenizer) -> None:
    orders = set()
    for seed in range(30):
        ids, bounds, found = changed(tokenizer, TEXT, seed)
        assert sorted(found) == sorted(ids) and len(bounds) == 5
        assert found[: bounds[0]] == ids[: bounds[0]] and found[bounds[-1] :] == ids[bounds[-1] :]
        sentences = [ids[start:end] for start, end in pairwise(bounds)]
        rest, order = found[bounds[0] : bounds[-1]], []
        while rest:
            place = next(place for place, one in enumerate(sentences) if rest[: len(one)] == one)
            order.append(place)
            rest = rest[len(sentences[place]) :]
        assert sorted(order) == [0, 1, 2, 3]
        orders.add(tuple(order))
        assert found == changed(tokenizer, TEXT, seed)[2]
    assert len(orders) > 10


def test_the_sentences_are_those_of_the_text() -> None:
    tokenizer = word_pieces(train_word_pieces([TEXT, TEXT], vocabulary=200), length=64)
    ids, bounds, _ = changed(tokenizer, TEXT, 0)
    found = [tokenizer.tokenizer.decode(ids[start:end]) for start, end in pairwise(bounds)]
    assert [one.replace(" ", "") for one in found] == [one.replace(" ", "").lower() for one in SENTENCES]


def test_one_sentence_and_no_text_stay_as_they_are(tokenizer: Tokenizer) -> None:
    for text in (SENTENCES[0], SENTENCES[3], ""):
        ids, _, found = changed(tokenizer, text, 1)
        assert found == ids


def test_a_text_that_was_cut_to_the_towers_length_keeps_what_is_left_of_it(tokenizer: Tokenizer) -> None:
    ids, bounds, found = changed(tokenizer, " ".join([TEXT] * 12), 3)
    assert len(bounds) >= 5 and bounds[-1] == len(ids) - 1
    assert found != ids and sorted(found) == sorted(ids) and found[-1] == ids[-1]


def weights(run: Path) -> bytes:
    return (run / "model" / "fusion.safetensors").read_bytes()


@pytest.mark.parametrize(("stages", "matters"), [(JOINT, True), (FROZEN, False)], ids=["trains", "frozen"])
def test_the_order_of_sentences_varies_only_while_the_text_tower_trains(
    stages: tuple[Stage, ...], matters: bool, described: Path, make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    texts = {"manifest": described, "text_source": "description", "captions": None, "stages": stages}
    plain, varied, again = (
        weights(train(make_config(tmp_path / str(number), augment=augment, **texts)))
        for number, augment in enumerate([(), ("text",), ("text",)])
    )
    assert varied == again
    assert (plain != varied) == matters


def test_where_no_text_has_two_sentences_nothing_changes_and_that_is_said(
    make_config: Callable[..., TrainConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="fusion.train"):
        runs = [
            train(make_config(tmp_path / str(number), stages=JOINT, augment=augment))
            for number, augment in enumerate([(), ("text",)])
        ]
    assert weights(runs[0]) == weights(runs[1])
    lines = [record.getMessage() for record in caplog.records if record.name == "fusion.train"]
    assert lines == ["augment: text changes nothing, since no text has more than one sentence"]
