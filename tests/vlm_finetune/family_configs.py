"""Configurations and processors of six families of vision-language models, all widths made tiny."""

from collections.abc import Sequence
from typing import Any

from chat_templates import GEMMA, IDEFICS, INTERNVL, LLAVA_ONEVISION, QWEN
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma3Config,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

LONG = "High cellularity with no neuropil and a high MKI."
SHORT = "Abundant neuropil, low cellularity; no necrosis."
_TEXTS = (LONG, SHORT, "Describe what is seen.", "You are a pathologist.", "system user assistant model\nUser: ")

# Widths shared by all language models: two layers of two heads of sixteen.
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
}
_TOWER = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}


def _tokenizer(
    special: Sequence[str], *, eos: str, bos: str | None = None, unnamed: Sequence[str] = (), **named: str
) -> PreTrainedTokenizerFast:
    """Byte-level BPE with the tokens `special`, `unnamed` (known to the backend alone) and `named` (attributes)."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokens = list(dict.fromkeys(["<pad>", eos, *([bos] if bos else []), *special, *unnamed, *named.values()]))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(_TEXTS * 4, trainer)
    if bos:
        # As in the released tokenizer; a template that writes the token as well must not have it twice.
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, bpe.token_to_id(bos))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        eos_token=eos,
        bos_token=bos,
        additional_special_tokens=list(special),
        # Generation must not depend on the side that a tokenizer happens to have been saved with.
        padding_side="right",
        model_max_length=512,
    )
    if named:
        tokenizer._set_model_specific_special_tokens(special_tokens=named)
    return tokenizer


def _text(tokenizer: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return {**_TEXT, **ids, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **more}


_QWEN_TOKENS = ("<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def _qwen_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in zip(names, _QWEN_TOKENS[1:], strict=True)}


def qwen2_5_vl() -> tuple[PreTrainedConfig, Any]:
    tokenizer = _tokenizer(_QWEN_TOKENS, eos="<|im_end|>")
    # The limits of the released model, which would leave a small patch at another size than asked for.
    geometry: dict[str, Any] = {"size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}}
    config = Qwen2_5_VLConfig(
        text_config=_text(tokenizer, rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3]}),
        vision_config={
            "depth": 2,
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_heads": 2,
            "window_size": 56,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        **_qwen_ids(tokenizer),
    )
    return config, Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**geometry),
        video_processor=Qwen2VLVideoProcessor(**geometry),
        tokenizer=tokenizer,
        chat_template=QWEN,
    )


def qwen3_vl() -> tuple[PreTrainedConfig, Any]:
    tokenizer = _tokenizer(_QWEN_TOKENS, eos="<|im_end|>")
    geometry: dict[str, Any] = {"patch_size": 16, "size": {"shortest_edge": 256 * 256, "longest_edge": 4096 * 4096}}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=_text(tokenizer, head_dim=16, rope_parameters=rope, bos_token_id=None),
        vision_config={
            "depth": 2,
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        **_qwen_ids(tokenizer),
    )
    return config, Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**geometry),
        video_processor=Qwen3VLVideoProcessor(patch_size=16),
        tokenizer=tokenizer,
        chat_template=QWEN,
    )


def idefics3() -> tuple[PreTrainedConfig, Any]:
    tokenizer = _tokenizer(
        ("<|im_start|>", "<fake_token_around_image>", "<image>", "<global-img>", "<row_1_col_1>", "<row_1_col_2>"),
        eos="<end_of_utterance>",
        bos="<|im_start|>",
    )
    config = Idefics3Config(
        text_config={"model_type": "llama", **_text(tokenizer)},
        vision_config={**_TOWER, "image_size": 56, "patch_size": 14},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    # Cuts every image into sixteen tiles and an overview, as released.
    images = Idefics3ImageProcessor(size={"longest_edge": 224}, max_image_size={"longest_edge": 56})
    return config, Idefics3Processor(
        image_processor=images, tokenizer=tokenizer, image_seq_len=4, chat_template=IDEFICS
    )


def llava_onevision() -> tuple[PreTrainedConfig, Any]:
    tokenizer = _tokenizer(("<|im_start|>", "<image>", "<video>"), eos="<|im_end|>")
    grids = [[56 * rows, 56 * columns] for rows in range(1, 4) for columns in range(1, 4)]
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **_text(tokenizer)},
        vision_config={
            "model_type": "siglip_vision_model",
            **_TOWER,
            "image_size": 56,
            "patch_size": 14,
            "vision_use_head": False,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grids,
    )
    size = {"height": 56, "width": 56}
    return config, LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grids),
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        tokenizer=tokenizer,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=LLAVA_ONEVISION,
    )


def internvl() -> tuple[PreTrainedConfig, Any]:
    tokenizer = _tokenizer(
        ("<|im_start|>",),
        eos="<|im_end|>",
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **_text(tokenizer)},
        vision_config={**_TOWER, "image_size": [56, 56], "patch_size": [14, 14]},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    size = {"height": 56, "width": 56}
    # A least number of tiles, so that even a small patch would be cut.
    images = GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=2, max_patches=12)
    return config, InternVLProcessor(
        image_processor=images,
        video_processor=InternVLVideoProcessor(size=size),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=INTERNVL,
    )


def gemma3() -> tuple[PreTrainedConfig, Any]:
    tokenizer = _tokenizer(
        (),
        eos="<eos>",
        bos="<bos>",
        # As released: the end of turn is none of the named special tokens.
        unnamed=("<start_of_turn>", "<end_of_turn>"),
        image_token="<image_soft_token>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
    )
    config = Gemma3Config(
        text_config=_text(
            tokenizer,
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=16,
            layer_types=["sliding_attention", "full_attention"],
        ),
        vision_config={**_TOWER, "image_size": 56, "patch_size": 14, "vision_use_head": False},
        mm_tokens_per_image=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
    )
    images = Gemma3ImageProcessor(size={"height": 56, "width": 56}, do_pan_and_scan=True)
    return config, Gemma3Processor(image_processor=images, tokenizer=tokenizer, image_seq_length=4, chat_template=GEMMA)
