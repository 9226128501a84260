"""LoRA on a tower trains adapters alone, and leaves a tower like any other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_encoders import TEXTS, small

from data.errors import InputError
from fusion.curriculum import Stage
from fusion.lora import add_lora, merge_lora, trainable
from fusion.predictor import Predictor
from fusion.record import Modality
from fusion.towers import find_tower, load_image_tower, load_text_tower, rebuild_tower, save_tower
from fusion.train import train


def load(name: str, modality: Modality, folder: Path) -> tuple[Any, Any]:
    """A small tower and a batch for it."""
    record = find_tower(name, modality=modality)
    record = small(record, folder) if record.has_weights else record
    if modality == "image":
        image = load_image_tower(record)
        return image, torch.rand(2, 3, image.image_size, image.image_size)
    text = load_text_tower(record, texts=TEXTS)
    return text, text.tokenizer.collate(text.tokenizer.encode(TEXTS))


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("uni", "image"),
        ("tiny-image", "image"),
        ("phikon-v2", "image"),
        ("quiltnet-b-32", "image"),
        ("quiltnet-b-32", "text"),
        ("biomedclip", "text"),
        ("plip", "text"),
        ("tiny-text", "text"),
    ],
)
def test_adapters_learn_alone_and_merge_into_a_tower_as_it_was(name: str, modality: Modality, tmp_path: Path) -> None:
    tower, batch = load(name, modality, tmp_path / "model")
    tower.eval()
    before = {key: tensor.clone() for key, tensor in tower.state_dict().items()}
    with torch.no_grad():
        features = tower(batch)
    add_lora(tower, rank=2)
    with torch.no_grad():
        torch.testing.assert_close(tower(batch), features)
    adapters = trainable(tower)
    assert 0 < sum(map(torch.numel, adapters)) < sum(map(torch.numel, before.values()))
    # Adam's steps do not shrink with the layer scale of 1e-5 that some towers have.
    optimizer = torch.optim.Adam(adapters, lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        tower(batch).square().mean().backward()
        assert all(parameter.grad is not None for parameter in adapters)
        optimizer.step()
    with torch.no_grad():
        learnt = tower(batch)
    assert not torch.equal(learnt, features)
    merge_lora(tower)
    assert tower.state_dict().keys() == before.keys()
    with torch.no_grad():
        torch.testing.assert_close(tower(batch), learnt, atol=1e-4, rtol=1e-3)
    save_tower(tower, tmp_path / "saved")
    again = rebuild_tower(tmp_path / "saved").eval()
    again.load_state_dict(tower.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(again(batch), tower(batch))


def test_a_run_with_lora_changes_the_adapted_layers_alone_and_saves_a_plain_model(make_config, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    stages = (Stage(name="image", epochs=1, freeze=("text",)), Stage(name="joint", epochs=1))
    folders = {modality: tmp_path / modality for modality in ("image", "text")}
    towers = {
        "image": small(find_tower("phikon-v2", modality="image"), folders["image"]),
        "text": small(find_tower("bert-base-uncased", modality="text"), folders["text"]),
    }
    from transformers import ViTImageProcessor

    ViTImageProcessor(size={"height": 224, "width": 224}).save_pretrained(folders["image"])
    config = make_config(
        tmp_path / "run",
        stages=stages,
        image_tower=str(folders["image"]),
        text_tower=str(folders["text"]),
        pretrained=True,
        image_lora_rank=2,
        text_lora_rank=2,
    )
    predictor = Predictor.load(train(config), device="cpu")
    for modality, trained in (("image", predictor.model.image_tower), ("text", predictor.model.text_tower)):
        record = find_tower(towers[modality].source, modality=modality)  # type: ignore[arg-type]
        fresh = load_image_tower(record) if modality == "image" else load_text_tower(record, texts=[])
        now = trained.state_dict()
        assert fresh.state_dict().keys() == now.keys()
        changed = {key for key, tensor in fresh.state_dict().items() if not torch.equal(tensor, now[key])}
        linear = {f"{name}.weight" for name, module in fresh.named_modules() if isinstance(module, torch.nn.Linear)}
        assert changed and changed <= linear


def test_a_rank_below_nothing_is_refused(make_config, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="image_lora_rank"):
        make_config(tmp_path / "run", image_lora_rank=-1)
