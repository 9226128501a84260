"""Classify patches with a trained model, from pixels and text or from features and text."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.devices import choose_device
from data.errors import InputError
from data.out_of_memory import run_in_batches
from fusion.images import frame_patch
from fusion.model import FusionModel
from fusion.saved_model import load_model

ARMS = ("fused", "image", "text")


@dataclass(frozen=True)
class Prediction:
    """Calibrated class probabilities of N patches, float32."""

    fused: np.ndarray
    """(N, C) from image and text; from the image alone where there is no text."""
    image: np.ndarray
    """(N, C) from the image alone."""
    text: np.ndarray
    """(N, C) from the text alone; uniform where there is no text."""
    gate: np.ndarray
    """(N,) trust in the text, 0 where there is none."""


class Predictor:
    """A trained model, ready for patches of any size."""

    def __init__(
        self,
        *,
        model: FusionModel,
        class_names: Sequence[str],
        temperatures: dict[str, float] | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device).eval()
        self.class_names = tuple(class_names)
        self.batch_size = 64
        """Patches at once; halves where memory runs out."""
        self.temperatures = {arm: (temperatures or {}).get(arm, 1.0) for arm in ARMS}

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto", trusted: Sequence[str] = ()) -> "Predictor":
        """Load the folder that training wrote; `trusted` names models whose own code may run.

        Raises:
            InputError: no finished model there, or no such device.
        """
        calibration = folder / "calibration.json"
        if not calibration.is_file():
            raise InputError(f"{folder}: holds no finished model; train one with `mmlnb train --out {folder}`")
        model, class_names = load_model(folder / "model", trusted=trusted)
        try:
            temperatures = json.loads(calibration.read_text(encoding="utf-8"))["temperatures"]
            temperatures = {arm: float(temperatures[arm]) for arm in ARMS}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{calibration}: cannot be read as a calibration; train the model again") from error
        return cls(model=model, class_names=class_names, temperatures=temperatures, device=choose_device(device))

    @torch.inference_mode()
    def encode_images(self, images: Sequence[np.ndarray]) -> Tensor:
        """Features (N, D) of square RGB uint8 `images` of any size, on the CPU."""
        framing = self.model.image_tower.framing

        def encode(some: Sequence[np.ndarray]) -> Tensor:
            pixels = torch.stack([frame_patch(image, framing=framing) for image in some])
            features: Tensor = self.model.image_tower(pixels.to(self.device)).cpu()
            return features

        features, self.batch_size = run_in_batches(encode, images, size=self.batch_size, name="image tower")
        return torch.cat(features) if features else torch.empty(0, self.model.image_tower.dim)

    @torch.inference_mode()
    def predict_features(self, features: Tensor, texts: Sequence[str | None]) -> Prediction:
        """Classify N patches by image `features` (N, D) from `encode_images` and by text, None where missing."""
        if len(features) != len(texts):
            raise ValueError(f"{len(features)} patches and {len(texts)} texts")
        parts, self.batch_size = run_in_batches(
            lambda rows: self._predict_batch(features[list(rows)], [texts[row] for row in rows]),
            range(len(texts)),
            size=self.batch_size,
            name="text tower",
        )
        empty = np.zeros((0, len(self.class_names)), dtype=np.float32)
        if not parts:
            return Prediction(fused=empty, image=empty, text=empty, gate=np.zeros(0, dtype=np.float32))
        joined = {arm: np.concatenate([getattr(part, arm) for part in parts]) for arm in (*ARMS, "gate")}
        return Prediction(**joined)

    def predict(self, images: Sequence[np.ndarray], texts: Sequence[str | None]) -> Prediction:
        """Classify N square RGB uint8 `images` of any size with their texts, None where missing."""
        return self.predict_features(self.encode_images(images), texts)

    def _predict_batch(self, features: Tensor, texts: Sequence[str | None]) -> Prediction:
        usable = [text if text and text.strip() else None for text in texts]
        tokenizer = self.model.text_tower.tokenizer
        tokens = tokenizer.collate(tokenizer.encode([text or "" for text in usable]))
        output = self.model(
            image=features.to(self.device),
            tokens={name: tensor.to(self.device) for name, tensor in tokens.items()},
            has_text=torch.tensor([text is not None for text in usable], device=self.device),
        )

        def probabilities(arm: str) -> np.ndarray:
            logits: Tensor = getattr(output, arm)
            return (logits.float() / self.temperatures[arm]).softmax(dim=1).cpu().numpy()

        found = Prediction(
            **{arm: probabilities(arm) for arm in ARMS}, gate=output.gate.float().cpu().numpy().astype(np.float32)
        )
        if not self.model.block.knows_missing_text:
            # The published block fuses the empty text as if it had been written; whoever asks must not be told so.
            missing = np.array([text is None for text in usable])
            found.fused[missing] = found.image[missing]
            found.gate[missing] = 0
        return found
