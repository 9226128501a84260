"""A small Qwen2.5-VL, real in every class, built from its configuration and a tokenizer trained on given texts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
SPECIAL_TOKENS = [PAD, TURN_START, TURN_END, VISION_START, VISION_END, IMAGE, VIDEO]

# The template of Qwen2.5-VL, less videos, tools and numbered images.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Widths and depths of a small Qwen2.5-VL; the defaults are those of the shipped model."""

    image_px: int = 112
    patch_px: int = 14
    merge: int = 2
    vision_width: int = 160
    vision_depth: int = 4
    vision_heads: int = 4
    text_width: int = 192
    text_depth: int = 4
    text_heads: int = 4
    text_inner: int = 384
    vocabulary: int = 1200


def build_processor(texts: Iterable[str], size: Size) -> Qwen2_5_VLProcessor:
    """Processor whose byte-level BPE tokenizer is trained on `texts` and whose images come out at `size.image_px`."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size.vocabulary,
            special_tokens=SPECIAL_TOKENS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=TURN_END,
        additional_special_tokens=SPECIAL_TOKENS[1:],
        padding_side="left",
        model_max_length=2048,
    )
    geometry: dict[str, Any] = {
        "patch_size": size.patch_px,
        "merge_size": size.merge,
        "temporal_patch_size": 1,
        "size": {"shortest_edge": size.image_px**2, "longest_edge": size.image_px**2},
    }
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**geometry),
        video_processor=Qwen2VLVideoProcessor(**geometry),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(processor: Qwen2_5_VLProcessor, size: Size, *, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """Freshly initialised float32 model for `processor`, the same for the same seed."""
    tokenizer = processor.tokenizer
    ids = dict(zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS), strict=True))
    head = size.text_width // size.text_heads
    third = head // 6
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": size.vision_depth,
            "hidden_size": size.vision_width,
            "intermediate_size": 3 * size.vision_width,
            "num_heads": size.vision_heads,
            "patch_size": size.patch_px,
            "spatial_merge_size": size.merge,
            "temporal_patch_size": 1,
            "window_size": size.image_px,
            "out_hidden_size": size.text_width,
            "fullatt_block_indexes": list(range(size.vision_depth)),
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": size.text_width,
            "intermediate_size": size.text_inner,
            "num_hidden_layers": size.text_depth,
            "num_attention_heads": size.text_heads,
            "num_key_value_heads": size.text_heads // 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                # Time, height and width share half the head between them.
                "mrope_section": [head // 2 - 2 * third, third, third],
            },
            "bos_token_id": None,
            "eos_token_id": ids[TURN_END],
            "pad_token_id": ids[PAD],
        },
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=ids[TURN_END], pad_token_id=ids[PAD], do_sample=False, max_new_tokens=96
    )
    return model
