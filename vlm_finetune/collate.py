"""Labels on the answer alone: the boundary between prompt and completion is drawn before anything is tokenised."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from data.errors import InputError
from vlm_finetune.encode import apply_template
from vlm_finetune.prompt import PatchPrompt

IGNORED = -100
_MARK = "answer"
# Per-token tensors besides ids and mask; the answer is plain text, type 0.
_TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")


@dataclass(frozen=True)
class AnswerForm:
    """What the chat template puts around the model's answer."""

    lead: str
    """Between the generation prompt and the answer; often nothing, for some models a blank."""
    end_id: int
    """Token that closes the turn; trained, so that the model stops."""

    @classmethod
    def of(cls, processor: Any, prompt: PatchPrompt) -> "AnswerForm":
        """Form read from the chat template of `processor`."""
        before = apply_template(processor, prompt.messages(), tokenize=False, add_generation_prompt=True)
        whole = apply_template(processor, prompt.messages(_MARK), tokenize=False)
        head, found, tail = whole.rpartition(_MARK)
        # Some templates space a finished turn otherwise than one to be written; the model will meet the latter.
        if not found or not (head.startswith(before) or head.rstrip() == before.rstrip()):
            raise InputError(
                f"{type(processor).__name__}: its chat template does not continue the prompt with the answer, "
                "so labels cannot be told from prompt; give the model another chat_template.jinja"
            )
        tokenizer = processor.tokenizer
        closing = tokenizer(tail, add_special_tokens=False)["input_ids"]
        # Not all_special_ids: the end of turn of Gemma 3 is none of the named special tokens.
        special = [token for token in closing if token in tokenizer.added_tokens_decoder]
        end_id = special[0] if special else tokenizer.eos_token_id
        return cls(lead=head[len(before) :] if head.startswith(before) else "", end_id=end_id)


@dataclass(frozen=True)
class EncodedAnswer:
    """Token ids of an answer with its end of turn, and whether it had to be shortened."""

    ids: torch.Tensor
    shortened: bool


def encode_answer(text: str, form: AnswerForm, processor: Any, *, room: int) -> EncodedAnswer:
    """Ids of `text` and the end of turn in at most `room` tokens; a longer text is cut at its end, never the image.

    Raises:
        InputError: the prompt with its image leaves no room for an answer.
    """
    if room < 2:
        raise InputError("--max_length is no longer than the prompt with its image; raise it or lower --image_px")
    ids = processor.tokenizer(form.lead + text, add_special_tokens=False)["input_ids"]
    return EncodedAnswer(ids=torch.tensor([*ids[: room - 1], form.end_id]), shortened=len(ids) > room - 1)


def join(encoded: dict[str, torch.Tensor], answer: EncodedAnswer) -> dict[str, torch.Tensor]:
    """One training example from an encoded prompt (batch of one) and its answer; labels cover the answer alone."""
    prompt_ids = encoded["input_ids"][0]
    example = {key: value for key, value in encoded.items() if key not in ("input_ids", "attention_mask")}
    for key in _TOKEN_TYPES:
        if key in encoded:
            example[key] = torch.cat([encoded[key][0], torch.zeros_like(answer.ids)])
    example["input_ids"] = torch.cat([prompt_ids, answer.ids])
    example["labels"] = torch.cat([torch.full_like(prompt_ids, IGNORED), answer.ids])
    return example


@dataclass(frozen=True)
class Collator:
    """Batch of training examples, padded on the right; image tensors follow one another."""

    pad_id: int

    def __call__(self, examples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Ids, mask and labels of shape (N, longest); image tensors concatenated along their first axis."""
        fill = {"input_ids": self.pad_id, "labels": IGNORED} | dict.fromkeys(_TOKEN_TYPES, 0)
        batch = {}
        for key in examples[0]:
            tensors = [example[key] for example in examples]
            batch[key] = (
                pad_sequence(tensors, batch_first=True, padding_value=fill[key]) if key in fill else torch.cat(tensors)
            )
        lengths = torch.tensor([len(example["input_ids"]) for example in examples])
        batch["attention_mask"] = (torch.arange(int(lengths.max()))[None] < lengths[:, None]).long()
        return batch
