"""A text that repeats itself is ended where it begins to, and other texts are left alone."""

import torch

from vlm_finetune.loop_guard import LoopGuard

START = [1, 2, 3]
END = 9


def ended(rows: list[list[int]], *, max_repeats: int = 4) -> dict[int, int]:
    guard = LoopGuard(len(START), max_repeats=max_repeats, ends=[END])
    for length in range(1, len(rows[0]) + 1):
        guard(torch.tensor([START + row[:length] for row in rows]), None)
    return guard.kept


def test_a_loop_is_ended_after_its_first_round() -> None:
    loop = [11, 12, 13, *[21, 22, 23, 24, 25] * 12][:56]
    other = list(range(100, 156))
    assert ended([other, loop]) == {1: 3 + 5 + (32 - 28) % 5}


def test_one_word_over_and_over_is_a_loop_and_three_dots_are_none() -> None:
    words = [[7] * 24, [5, 7, 7, 7, *range(100, 120)]]
    assert set(ended(words)) == {0}


def test_the_padding_of_a_text_that_ended_is_no_loop() -> None:
    assert ended([[30, 31, END, *[0] * 37]]) == {}


def test_a_list_of_findings_that_returns_to_its_words_is_no_loop() -> None:
    sentence = [40, 41, 42, 43]
    text = [*sentence, 1, *sentence, 2, *sentence, 3, *sentence, 4, *sentence, 5, *sentence, 6, *range(200, 210)]
    assert ended([text]) == {}


def test_what_happens_to_a_row_does_not_depend_on_the_others() -> None:
    loop = [11, *[21, 22] * 30][:40]
    assert ended([loop]) == {0: ended([list(range(100, 140)), loop])[1]}
