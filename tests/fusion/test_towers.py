"""Towers by name: records, loaders, and towers that survive being saved."""

import json
from pathlib import Path

import pytest
import torch
from small_encoders import TEXTS, put_in_cache

from data.errors import InputError
from fusion.tower import ImageTower, TextTower
from fusion.towers import (
    TOWERS,
    check_weights,
    find_tower,
    load_image_tower,
    load_text_tower,
    rebuild_tower,
    save_tower,
)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def make_open_clip(folder: Path) -> Path:
    """A small CLIP in the form in which the hub holds them."""
    import open_clip
    from safetensors.torch import save_file

    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    preprocess = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1], "interpolation": "bicubic"}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    model = open_clip.CLIP(**config)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def make_vit(folder: Path) -> Path:
    """A small transformers vision model with its processor."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.7] * 3, image_std=[0.1] * 3).save_pretrained(
        folder
    )
    return folder


def assert_same_after_saving(tower: ImageTower | TextTower, folder: Path, batch: object) -> None:
    save_tower(tower, folder)
    again = rebuild_tower(folder)
    again.load_state_dict(tower.state_dict(), strict=True)
    assert again.record == tower.record
    tower.eval()
    again.eval()
    with torch.no_grad():
        torch.testing.assert_close(again(batch), tower(batch))


def test_every_record_says_what_a_user_must_know() -> None:
    assert len({(record.name, record.modality) for record in TOWERS}) == len(TOWERS)
    for record in TOWERS:
        assert record.licence and record.dim
        if record.modality == "image":
            assert record.image_size and record.mean and record.std
        else:
            assert record.text_length


def test_records_hold_the_published_preprocessing() -> None:
    vgg = find_tower("vgg16", modality="image")
    assert (vgg.dim, vgg.image_size, vgg.pooling, vgg.source) == (512, 224, "mean", "vgg16.tv_in1k")
    assert (vgg.mean, vgg.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    bert = find_tower("bert-base-uncased", modality="text")
    assert (bert.dim, bert.text_length, bert.pooling) == (768, 128, "pooler")
    optimus = find_tower("h-optimus-0", modality="image")
    assert optimus.mean == (0.707223, 0.578729, 0.703617) and optimus.gated and optimus.mpp == 0.5


def test_vgg16_is_its_features_and_a_global_average() -> None:
    tower = load_image_tower(find_tower("vgg16", modality="image"), pretrained=False).eval()
    pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        found = tower(pixels)
        normal = (pixels / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        expected = tower.body.model.features(normal).mean(dim=(2, 3))  # type: ignore[operator, union-attr]
    assert found.shape == (1, 512)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    # The layers of 4096 that pooling leaves out would be 89 % of the weights.
    assert sum(parameter.numel() for parameter in tower.parameters()) == 14_714_688


def test_the_tiny_towers_have_the_dimensions_of_their_records(tmp_path: Path) -> None:
    image = load_image_tower(find_tower("tiny-image", modality="image"))
    text = load_text_tower(find_tower("tiny-text", modality="text"), texts=TEXTS)
    pixels = torch.randint(0, 256, (2, 3, 112, 112), dtype=torch.uint8)
    tokens = text.tokenizer.collate(text.tokenizer.encode(TEXTS))
    assert image(pixels).shape == (2, image.dim) == (2, 192)
    assert text(tokens).shape == (3, text.dim) == (3, 128)
    assert_same_after_saving(image, tmp_path / "image", pixels)
    assert_same_after_saving(text, tmp_path / "text", tokens)


def test_text_is_padded_to_the_longest_of_the_batch_and_padding_changes_nothing() -> None:
    tower = load_text_tower(find_tower("tiny-text", modality="text"), texts=TEXTS).eval()
    ids = tower.tokenizer.encode(TEXTS)
    batch = tower.tokenizer.collate(ids)
    assert batch["input_ids"].shape[1] == max(len(row) for row in ids) < 64
    with torch.no_grad():
        together = tower(batch)
        alone = torch.cat([tower(tower.tokenizer.collate([row])) for row in ids])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_text_longer_than_the_tower_is_cut_and_keeps_its_end_mark() -> None:
    tower = load_text_tower(find_tower("tiny-text", modality="text"), texts=TEXTS)
    (ids,) = tower.tokenizer.encode(["cells " * 500])
    assert len(ids) == 64 and ids[-1] == tower.tokenizer.encode([""])[0][-1]


def test_the_tokenizer_is_the_same_for_the_same_texts() -> None:
    from fusion.tokens import train_word_pieces

    assert train_word_pieces(TEXTS, vocabulary=100) == train_word_pieces(TEXTS[::-1], vocabulary=100)


def test_both_halves_of_a_clip_load_from_a_folder_and_agree_with_it(tmp_path: Path) -> None:
    import open_clip

    folder = make_open_clip(tmp_path / "clip")
    image = load_image_tower(find_tower(str(folder), modality="image")).eval()
    text = load_text_tower(find_tower(str(folder), modality="text"), texts=[]).eval()
    assert (image.dim, image.image_size, text.dim, text.record.text_length) == (24, 32, 24, 16)
    assert image.record.mean == (0.5, 0.4, 0.3)
    whole = open_clip.create_model(f"local-dir:{folder}").eval()
    pixels = torch.rand(2, 3, 32, 32)
    tokens = text.tokenizer.collate(text.tokenizer.encode(TEXTS))
    with torch.no_grad():
        normal = (pixels - image.mean) / image.std
        torch.testing.assert_close(image(pixels), whole.encode_image(normal))
        expected = whole.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS))
        torch.testing.assert_close(text(tokens), expected)
    assert_same_after_saving(image, tmp_path / "image", pixels)
    assert_same_after_saving(text, tmp_path / "text", tokens)


def test_a_transformers_folder_loads_with_the_processing_it_was_saved_with(tmp_path: Path) -> None:
    folder = make_vit(tmp_path / "vit")
    tower = load_image_tower(find_tower(str(folder), modality="image")).eval()
    assert (tower.dim, tower.image_size, tower.record.mean) == (32, 32, (0.7, 0.7, 0.7))
    assert_same_after_saving(tower, tmp_path / "saved", torch.rand(2, 3, 32, 32))


def test_any_timm_model_loads_by_its_name(tmp_path: Path) -> None:
    tower = load_image_tower(find_tower("timm:resnet10t", modality="image"), pretrained=False)
    assert (tower.dim, tower.image_size) == (512, 176)
    assert_same_after_saving(tower, tmp_path / "saved", torch.rand(1, 3, 64, 64))


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("record", [record for record in TOWERS if record.has_weights], ids=lambda record: record.name)
def test_missing_weights_are_told_in_one_line_with_the_remedy(record: object) -> None:
    with pytest.raises(InputError) as caught:
        check_weights(record)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message and f"`mmlnb prefetch {record.name}`" in message  # type: ignore[attr-defined]
    assert ("accept its licence at https://" in message) == record.gated  # type: ignore[attr-defined]


def test_an_unknown_tower_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"image tower vg16 is unknown; the nearest is vgg16"):
        find_tower("vg16", modality="image")


def test_a_folder_that_holds_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: cannot be read"):
        find_tower(str(tmp_path), modality="image")


def test_prefetch_learns_from_the_registry_what_to_fetch() -> None:
    from fusion.towers import hub_repository

    assert hub_repository("vgg16") == "timm/vgg16.tv_in1k"
    assert hub_repository("bert-base-uncased") == "google-bert/bert-base-uncased"
    assert hub_repository("quiltnet-b-32") == "wisdomik/QuiltNet-B-32"
    assert hub_repository("timm:hf-hub:MahmoodLab/UNI2-h") == "MahmoodLab/UNI2-h"
    assert hub_repository("open_clip:ViT-B-32@openai") == "timm/vit_base_patch32_clip_224.openai"
    assert hub_repository("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert hub_repository("tiny-image") is hub_repository("tiny") is None


@pytest.mark.usefixtures("empty_cache")
def test_an_open_clip_model_is_here_once_the_text_encoder_that_it_borrows_is(tmp_path: Path) -> None:
    record = find_tower("biomedclip", modality="text")
    assert record.repository is not None
    config = {"model_cfg": {"text_cfg": {"hf_model_name": "owner/bert", "hf_tokenizer_name": "owner/bert"}}}
    files = {"open_clip_config.json": json.dumps(config).encode(), "open_clip_model.safetensors": b""}
    put_in_cache(tmp_path / "hub", record.repository, files)
    with pytest.raises(InputError, match="`mmlnb prefetch biomedclip`"):
        check_weights(record)
    put_in_cache(tmp_path / "hub", "owner/bert", {"config.json": b"{}"})
    check_weights(record)


def test_prefetch_fetches_the_text_encoder_that_an_open_clip_model_borrows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    from mmlnb.config import PrefetchConfig
    from mmlnb.hub import prefetch

    config = {"model_cfg": {"text_cfg": {"hf_model_name": "owner/bert", "hf_tokenizer_name": "owner/bert"}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    fetched: list[tuple[str, object]] = []

    def download(name: str, *, allow_patterns: object = None, ignore_patterns: object = None) -> str:
        fetched.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    prefetch(PrefetchConfig(model="quiltnet-b-16-pmb"))
    assert fetched == [("wisdomik/QuiltNet-B-16-PMB", None), ("owner/bert", ["*.json", "*.txt"])]
