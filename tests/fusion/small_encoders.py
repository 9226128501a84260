"""Checkpoints of the registered encoders: as published but without weights, or small and whole."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusion.record import TowerRecord
from fusion.tokens import train_word_pieces, word_pieces

TEXTS = ["Sheets of small round cells.", "No neuropil.", "Large cells lie in abundant neuropil with rosettes."]

TIMM: dict[str, tuple[str, dict[str, Any]]] = {
    "uni": ("vit_large_patch16_224", {"img_size": 224}),
    "uni2-h": ("vit_giant_patch14_224", {}),
    "virchow2": (
        "vit_huge_patch14_224",
        {"img_size": 224, "init_values": 1e-5, "reg_tokens": 4, "mlp_ratio": 5.3375, "global_pool": ""},
    ),
    "h-optimus-0": ("vit_giant_patch14_reg4_dinov2", {"img_size": 224}),
    "h-optimus-1": ("vit_giant_patch14_reg4_dinov2", {"img_size": 224}),
    "prov-gigapath": (
        "vit_giant_patch14_dinov2",
        {
            "img_size": 224,
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "mlp_ratio": 5.33334,
            "init_values": 1e-5,
        },
    ),
}
"""Architecture and arguments that the published configuration names."""
SMALL_VIT = {"embed_dim": 32, "depth": 1, "num_heads": 2}

SMALL_BERT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SMALL_DINO = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 224, "patch_size": 32}
DINO = {
    "phikon-v2": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 16},
    "midnight": {
        "hidden_size": 1536,
        "num_hidden_layers": 40,
        "num_attention_heads": 24,
        "patch_size": 14,
        "use_swiglu_ffn": True,
    },
}
DINO["midnight-mean"] = DINO["midnight"]

OWN_CODE = """
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, Dinov2WithRegistersConfig, Dinov2WithRegistersModel
from transformers import PreTrainedConfig, PreTrainedModel

(Path("FOLDER") / "ran").touch()


class HibouConfig(Dinov2WithRegistersConfig):
    model_type = "hibou"


class HibouModel(Dinov2WithRegistersModel):
    config_class = HibouConfig


class KEEPConfig(PreTrainedConfig):
    model_type = "keep"

    def __init__(self, bert=None, **others):
        self.bert = bert
        super().__init__(**others)


class KEEPModel(PreTrainedModel):
    config_class = KEEPConfig

    def __init__(self, config):
        super().__init__(config)
        self.visual = torch.nn.Conv2d(3, 24, 32, 32)
        self.visual_head = torch.nn.Linear(24, 24)
        self.text = BertModel(BertConfig(**config.bert))
        self.logit_scale = torch.nn.Parameter(torch.ones([]))
        self.post_init()

    def encode_image(self, image_inputs):
        return self.visual_head(self.visual(image_inputs).mean(dim=(2, 3)))

    def encode_text(self, text_inputs):
        return self.text(**text_inputs).pooler_output
"""
"""A model that comes with its code, which leaves a file behind when it runs."""


def published(record: TowerRecord, folder: Path) -> TowerRecord:
    """The record over a folder that holds the published architecture alone; the length of its features is not told."""
    from transformers import CLIPConfig, Dinov2Config

    folder.mkdir()
    if record.loader == "timm":
        _write_timm(folder, *TIMM[record.name])
    elif record.name == "plip":
        CLIPConfig().save_pretrained(folder)
    else:
        Dinov2Config(**DINO[record.name]).save_pretrained(folder)
    return _over(record, folder)


def small(record: TowerRecord, folder: Path) -> TowerRecord:
    """The record over a folder that holds a small model of the same kind, with weights and tokenizer."""
    folder.mkdir()
    if record.loader == "timm":
        return _small_timm(record, folder)
    if record.loader == "open_clip":
        _small_open_clip(folder, bert=record.name in ("biomedclip", "quiltnet-b-16-pmb"))
    elif record.remote_code:
        _small_with_own_code(record, folder)
    else:
        _small_transformers(record, folder)
    return _over(record, folder)


def put_in_cache(cache: Path, repository: str, files: dict[str, bytes]) -> None:
    """Files of a repository as `prefetch` leaves them in the hub's cache."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)


def _over(record: TowerRecord, folder: Path) -> TowerRecord:
    source = str(folder) if record.loader == "transformers" else f"local-dir:{folder}"
    return replace(record, source=source, dim=None)


def _write_timm(folder: Path, architecture: str, arguments: dict[str, Any]) -> None:
    config = {"architecture": architecture, "num_classes": 0, "model_args": arguments, "pretrained_cfg": {}}
    (folder / "config.json").write_text(json.dumps(config))


def _small_timm(record: TowerRecord, folder: Path) -> TowerRecord:
    import timm
    from safetensors.torch import save_file

    architecture, arguments = TIMM[record.name]
    _write_timm(folder, architecture, arguments | SMALL_VIT)
    shrunk = replace(record, architecture={**record.architecture, **SMALL_VIT})
    arguments = arguments | dict(shrunk.architecture)
    if "mlp_layer" in arguments:
        arguments["mlp_layer"] = timm.layers.SwiGLUPacked
    model = timm.create_model(architecture, num_classes=0, **arguments)
    save_file(model.state_dict(), folder / "model.safetensors")
    return _over(shrunk, folder)


def _small_open_clip(folder: Path, *, bert: bool) -> None:
    import open_clip
    from safetensors.torch import save_file
    from transformers import BertConfig

    vision: dict[str, Any] = {"image_size": 224, "layers": 1, "width": 32, "patch_size": 32, "head_width": 16}
    text: dict[str, Any] = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    if bert:
        BertConfig(**SMALL_BERT, vocab_size=write_tokenizer(folder)[0]).save_pretrained(folder)
        text = {"context_length": 256, "hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
        text |= {"hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"}
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    preprocess = {"mean": [0.1] * 3, "std": [0.2] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    model = open_clip.create_model(
        f"local-dir:{folder}", load_weights=False, pretrained_image=False, pretrained_text=False
    )
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


def _small_transformers(record: TowerRecord, folder: Path) -> None:
    from transformers import AutoModel, BertConfig, CLIPConfig, Dinov2Config

    vocabulary, end = write_tokenizer(folder)
    config: Any = Dinov2Config(**SMALL_DINO)
    if record.name == "plip":
        text = SMALL_BERT | {"vocab_size": vocabulary, "eos_token_id": end}
        config = CLIPConfig(text_config=text, vision_config=SMALL_DINO, projection_dim=24)
    elif record.modality == "text":
        config = BertConfig(**SMALL_BERT, vocab_size=vocabulary)
    AutoModel.from_config(config).save_pretrained(folder)


def _small_with_own_code(record: TowerRecord, folder: Path) -> None:
    vocabulary, _ = write_tokenizer(folder)
    code = folder / "modeling_own.py"
    code.write_text(OWN_CODE.replace("FOLDER", str(folder)))
    spec = importlib.util.spec_from_file_location("modeling_own", code)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (folder / "ran").unlink()
    if record.name == "keep":
        module.KEEPModel(module.KEEPConfig(bert=SMALL_BERT | {"vocab_size": vocabulary})).save_pretrained(folder)
    else:
        module.HibouModel(module.HibouConfig(**SMALL_DINO)).save_pretrained(folder)
    prefix = "KEEP" if record.name == "keep" else "Hibou"
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": f"modeling_own.{prefix}Config", "AutoModel": f"modeling_own.{prefix}Model"}
    (folder / "config.json").write_text(json.dumps(config))


def write_tokenizer(folder: Path) -> tuple[int, int]:
    """Write a tokenizer; returns the size of its vocabulary and its end mark."""
    tokenizer = word_pieces(train_word_pieces(TEXTS, vocabulary=100), length=77)
    tokenizer.save(folder)
    return len(tokenizer), tokenizer.tokenizer.sep_token_id
