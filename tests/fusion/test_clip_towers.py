"""Image and text tower of one CLIP-like model, used together."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_encoders import SMALL_BERT, TEXTS, write_tokenizer
from test_towers import make_open_clip

from fusion.curriculum import Stage
from fusion.predictor import Predictor
from fusion.towers import TOWERS, find_tower, load_image_tower, load_text_tower
from fusion.train import train


def make_clip(folder: Path) -> Path:
    """A small CLIP as transformers saves it, with a processor that crops."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder.mkdir()
    vocabulary, end = write_tokenizer(folder)
    vision = SMALL_BERT | {"image_size": 32, "patch_size": 8}
    text = SMALL_BERT | {
        "vocab_size": vocabulary,
        "eos_token_id": end,
        "bos_token_id": None,
        "max_position_embeddings": 16,
    }
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, image_mean=[0.5, 0.4, 0.3]
    ).save_pretrained(folder)
    return folder


def open_clip_similarity(folder: Path, normal: torch.Tensor) -> torch.Tensor:
    import open_clip

    whole = open_clip.create_model(f"local-dir:{folder}").eval()
    image, text, _ = whole(normal, open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS))
    return image @ text.T


def transformers_similarity(folder: Path, normal: torch.Tensor) -> torch.Tensor:
    from transformers import AutoTokenizer, CLIPModel

    whole = CLIPModel.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding=True, truncation=True, max_length=16, return_token_type_ids=False, return_tensors="pt"
    )
    return whole(pixel_values=normal, **tokens).logits_per_image / whole.logit_scale.exp()


CLIPS = pytest.mark.parametrize(
    ("make", "similarity"),
    [(make_open_clip, open_clip_similarity), (make_clip, transformers_similarity)],
    ids=["open_clip", "transformers"],
)


@CLIPS
def test_the_two_towers_of_a_folder_agree_as_the_whole_model_does(
    make: Callable[[Path], Path], similarity: Callable[[Path, torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    folder = make(tmp_path / "clip")
    image = load_image_tower(find_tower(str(folder), modality="image")).eval()
    text = load_text_tower(find_tower(str(folder), modality="text"), texts=[]).eval()
    assert image.dim == text.dim == 24
    assert image.record.source == text.record.source
    assert image.record.mean == (0.5, 0.4, 0.3)
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = similarity(folder, (pixels - image.mean) / image.std)
        tokens = text.tokenizer.collate(text.tokenizer.encode(TEXTS))
        found = torch.nn.functional.cosine_similarity(image(pixels)[:, None], text(tokens)[None], dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_crop_of_a_saved_processor_is_kept(tmp_path: Path) -> None:
    tower = load_image_tower(find_tower(f"hf:{make_clip(tmp_path / 'clip')}", modality="image"))
    assert (tower.framing.resize, tower.framing.size, tower.framing.interpolation) == (40, 32, "bicubic")


@CLIPS
def test_a_fusion_is_trained_on_the_two_towers_of_one_folder(
    make: Callable[[Path], Path], similarity: object, make_config, tmp_path: Path
) -> None:
    folder = make(tmp_path / "clip")
    stages = (Stage(name="fusion", epochs=1, freeze=("image", "text")), Stage(name="joint", epochs=1))
    config = make_config(
        tmp_path / "run", image_tower=str(folder), text_tower=str(folder), pretrained=True, stages=stages, text_cut=0.5
    )
    predictor = Predictor.load(train(config), device="cpu")
    assert predictor.model.image_tower.dim == predictor.model.text_tower.dim == 24
    found = predictor.predict([np.full((56, 56, 3), 128, dtype=np.uint8)] * 2, [TEXTS[0], None])
    assert found.fused.shape == (2, 3) and np.allclose(found.fused.sum(axis=1), 1, atol=1e-5)


def test_a_registered_model_with_text_has_both_towers_under_one_name() -> None:
    for text in TOWERS:
        if text.modality == "image" or text.name in ("bert-base-uncased", "tiny-text"):
            continue
        image = find_tower(text.name, modality="image")
        assert (image.source, image.loader, image.dim, image.licence, image.gated, image.remote_code) == (
            text.source,
            text.loader,
            text.dim,
            text.licence,
            text.gated,
            text.remote_code,
        )
