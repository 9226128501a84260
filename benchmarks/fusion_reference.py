"""Train the fusion as the release of the paper does: nothing is kept, and nothing is left out that is frozen."""

import copy
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from tqdm import tqdm

from data.image import read_image
from fusion.curriculum import Stage
from fusion.epoch_plan import plan_epoch
from fusion.images import frame_patch
from fusion.metrics import Metrics, balanced_accuracy, measure
from fusion.model import FusionModel
from fusion.patches import Patches
from fusion.prmf import PaperPrmf
from fusion.text_noise import TextNoise
from fusion.tower import Tokens


@dataclass
class Reference:
    """A plain loop: float32, both towers in every step, the image tower twice, text filled up to the tower's length."""

    model: FusionModel
    patches: Patches
    batch_size: int
    learning_rate: float
    seed: int

    def __post_init__(self) -> None:
        """Make the optimiser, which all stages share."""
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.learning_rate)
        self.epochs = 0

    def fit_stage(self, stage: Stage, *, epochs: int, keep_best: bool = False) -> float:
        """Train `epochs` epochs of `stage` and return their seconds; the best epoch's weights stay if asked for."""
        started = time.perf_counter()
        best: tuple[tuple[float, float], dict[str, Tensor]] | None = None
        self.model.freeze(stage)
        for epoch in tqdm(range(epochs), desc=f"reference, stage {stage.name}", unit="epoch"):
            self.fit_epoch(alpha=stage.alpha(epoch))
            found = self.validate()
            if keep_best and (best is None or found > best[0]):
                best = found, copy.deepcopy(self.model.state_dict())
        if best is not None:
            self.model.load_state_dict(best[1])
        return time.perf_counter() - started

    def fit_epoch(self, *, alpha: float) -> None:
        """One pass over the training rows, in the order that the project would take them."""
        rows = self.patches.rows("train")
        plan = plan_epoch(
            self.patches.labels[rows],
            seed=self.seed,
            epoch=self.epochs,
            batch_size=self.batch_size,
            noise=TextNoise(),
            stain_jitter=0,
        )
        self.model.train()
        for positions in plan.batches:
            chosen = rows[positions]
            labels = torch.from_numpy(self.patches.labels[chosen])
            fused, image = self.logits(chosen)
            loss = alpha * cross_entropy(fused, labels) + (1 - alpha) * cross_entropy(image, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.epochs += 1

    def logits(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Logits (N, C) from both and from the image, each from a pass of its own through the image tower."""
        framing = self.model.image_tower.framing
        pixels = torch.stack([frame_patch(read_image(self.patches.images[row]), framing=framing) for row in rows])
        block = self.model.block
        assert isinstance(block, PaperPrmf)
        image = block.image_head(self.model.image_tower(pixels))
        tokens = self.tokens([self.patches.texts[row] or "" for row in rows])
        has_text = torch.tensor([self.patches.texts[row] is not None for row in rows])
        return self.model(pixels=pixels, tokens=tokens, has_text=has_text).fused, image

    def tokens(self, texts: list[str]) -> Tokens:
        """The batch of `texts`, filled up to the longest text that the tower takes."""
        tower = self.model.text_tower
        short = tower.tokenizer.collate(tower.tokenizer.encode(texts))
        length = tower.record.text_length
        assert length is not None
        return {name: pad(tensor, (0, length - tensor.shape[1])) for name, tensor in short.items()}

    def validate(self) -> tuple[float, float]:
        """Balanced accuracy and negative loss on the validation rows."""
        probabilities, labels = self.predict("val")
        likelihood = np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean()
        return balanced_accuracy(labels, probabilities.argmax(axis=1)), float(likelihood)

    @torch.no_grad()
    def predict(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Fused probabilities (N, C) and labels (N,) of a split."""
        self.model.eval()
        rows = self.patches.rows(split)
        parts = [
            self.logits(rows[start : start + self.batch_size])[0].softmax(dim=1).numpy()
            for start in range(0, len(rows), self.batch_size)
        ]
        return np.concatenate(parts), self.patches.labels[rows]

    def measure(self, split: str) -> Metrics:
        """Metrics of the fused prediction of a split."""
        probabilities, labels = self.predict(split)
        return measure(labels, probabilities)
