"""The predictor: one patch or many, with and without text, from pixels or features."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.errors import InputError
from fusion.predictor import Prediction, Predictor

ARMS = ("fused", "image", "text", "gate")


@pytest.fixture(scope="module")
def predictor(trained: Path) -> Predictor:
    return Predictor.load(trained, device="cpu")


@pytest.fixture(scope="module")
def images(dataset: tuple[Path, Path]) -> list[np.ndarray]:
    files = sorted((dataset[0].parent / "patches").glob("test-*.png"))
    return [np.asarray(Image.open(file)) for file in files]


TEXTS = ["fibrils with rosettes", None, "large cells lie in a fibrillary matrix", "", "sheets of small round cells"]


def texts_for(images: list[np.ndarray]) -> list[str | None]:
    return [TEXTS[index % len(TEXTS)] for index in range(len(images))]


def assert_close(first: Prediction, second: Prediction, tolerance: float) -> None:
    for arm in ARMS:
        np.testing.assert_allclose(getattr(first, arm), getattr(second, arm), atol=tolerance, err_msg=arm)


def test_it_tells_the_classes_apart(predictor: Predictor, images: list[np.ndarray]) -> None:
    # Files sort as D, PD, UD with four of each; the taxonomy's order is UD, PD, D.
    truth = np.repeat([2, 1, 0], 4)
    assert predictor.class_names == ("UD", "PD", "D")
    found = predictor.predict(images, [None] * len(images))
    assert (found.fused.argmax(axis=1) == truth).mean() >= 0.9


def test_probabilities_are_float32_and_sum_to_one(predictor: Predictor, images: list[np.ndarray]) -> None:
    found = predictor.predict(images, texts_for(images))
    for arm in ("fused", "image", "text"):
        table = getattr(found, arm)
        assert table.shape == (len(images), 3) and table.dtype == np.float32
        np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-5)
    assert found.gate.shape == (len(images),) and found.gate.dtype == np.float32


def test_a_batch_gives_what_its_patches_give_alone(predictor: Predictor, images: list[np.ndarray]) -> None:
    texts = texts_for(images)
    together = predictor.predict(images, texts)
    alone = [predictor.predict([image], [text]) for image, text in zip(images, texts, strict=True)]
    joined = Prediction(**{arm: np.concatenate([getattr(part, arm) for part in alone]) for arm in ARMS})
    assert_close(together, joined, 1e-5)


def test_the_same_input_gives_the_same_answer(predictor: Predictor, images: list[np.ndarray]) -> None:
    assert_close(predictor.predict(images, texts_for(images)), predictor.predict(images, texts_for(images)), 0)


def test_without_text_the_gate_is_shut_and_the_text_says_nothing(
    predictor: Predictor, images: list[np.ndarray]
) -> None:
    found = predictor.predict(images[:3], [None, "", "fibrils with rosettes"])
    assert found.gate[0] == found.gate[1] == 0 < found.gate[2]
    np.testing.assert_allclose(found.text[:2], 1 / 3, atol=1e-6)


def test_without_text_the_published_block_answers_with_the_image_arm(trained: Path, images: list[np.ndarray]) -> None:
    from fusion.blocks import build_block
    from fusion.model import FusionModel
    from fusion.saved_model import load_model

    model, names = load_model(trained / "model")
    towers = model.image_tower, model.text_tower
    torch.manual_seed(0)
    block = build_block("prmf-paper", image_dim=towers[0].dim, text_dim=towers[1].dim, classes=3)
    paper = Predictor(
        model=FusionModel(image_tower=towers[0], text_tower=towers[1], block=block),
        class_names=names,
        temperatures={"fused": 2.0, "image": 0.5, "text": 1.0},
    )
    found = paper.predict(images[:3], ["fibrils with rosettes", None, " "])
    np.testing.assert_array_equal(found.fused[1:], found.image[1:])
    assert found.gate[0] > 0 == found.gate[1] == found.gate[2]
    assert not np.allclose(found.fused[0], found.image[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_here_is_named(trained: Path) -> None:
    with pytest.raises(InputError, match="--device cuda: not on this machine"):
        Predictor.load(trained, device="cuda")


def test_features_once_encoded_serve_any_text(predictor: Predictor, images: list[np.ndarray]) -> None:
    features = predictor.encode_images(images)
    assert features.shape == (len(images), 192) and features.dtype == torch.float32
    texts = texts_for(images)
    assert_close(predictor.predict_features(features, texts), predictor.predict(images, texts), 1e-6)


def test_patches_of_any_size_are_brought_to_the_size_of_the_tower(
    predictor: Predictor, images: list[np.ndarray]
) -> None:
    large = np.asarray(Image.fromarray(images[0]).resize((448, 448), Image.Resampling.BICUBIC))
    small, big = predictor.predict([images[0]], [None]), predictor.predict([large], [None])
    assert small.fused.argmax() == big.fused.argmax()


def test_no_patches_give_no_rows(predictor: Predictor) -> None:
    found = predictor.predict([], [])
    assert found.fused.shape == (0, 3) and found.gate.shape == (0,)


def test_a_folder_without_a_finished_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished model"):
        Predictor.load(tmp_path)


def test_weights_that_do_not_fit_are_refused(trained: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    broken = tmp_path / "run"
    shutil.copytree(trained, broken)
    weights = load_file(broken / "model" / "fusion.safetensors")
    weights.pop("block.project.weight")
    save_file(weights, broken / "model" / "fusion.safetensors")
    with pytest.raises(InputError, match=r"fusion\.safetensors: does not fit its model"):
        Predictor.load(broken)
