"""Two towers and the block that fuses them."""

from torch import Tensor, nn

from fusion.block import FusionBlock, FusionOutput
from fusion.curriculum import Stage
from fusion.lora import trainable
from fusion.tower import ImageTower, TextTower, Tokens


class FusionModel(nn.Module):
    """Image tower, text tower and fusion block; the image tower runs once for everything that needs it."""

    def __init__(self, *, image_tower: ImageTower, text_tower: TextTower, block: FusionBlock) -> None:
        super().__init__()
        self.image_tower = image_tower
        self.text_tower = text_tower
        self.block = block
        self.frozen: tuple[str, ...] = ()

    def forward(
        self,
        *,
        has_text: Tensor,
        pixels: Tensor | None = None,
        image: Tensor | None = None,
        tokens: Tokens | None = None,
        text: Tensor | None = None,
    ) -> FusionOutput:
        """Classify N patches.

        Args:
            has_text: (N,) bool; false where the text is missing (its row holds the empty text).
            pixels: (N, 3, S, S) RGB, uint8 or float in [0, 1]; or give `image`.
            image: (N, Dv) features of the image tower, already encoded.
            tokens: a batch of the text tower's tokenizer; or give `text`.
            text: (N, Dt) features of the text tower, already encoded.
        """
        if image is None:
            assert pixels is not None
            image = self.image_tower(pixels)
        if text is None:
            assert tokens is not None
            text = self.text_tower(tokens)
        return self.block(image=image, text=text, has_text=has_text)

    def freeze(self, stage: Stage) -> None:
        """Set what `stage` trains: no gradient in a frozen tower, and its statistics and dropout still, too."""
        self.frozen = stage.freeze
        for name, tower in (("image", self.image_tower), ("text", self.text_tower)):
            tower.requires_grad_(False)
            for parameter in trainable(tower) if name not in stage.freeze else ():
                parameter.requires_grad_(True)
        self.train()

    def train(self, mode: bool = True) -> "FusionModel":
        """Switch to training; what is frozen stays in evaluation mode."""
        super().train(mode)
        for name, tower in (("image", self.image_tower), ("text", self.text_tower)):
            if name in self.frozen:
                tower.eval()
        return self

    def unfrozen_state(self) -> dict[str, Tensor]:
        """A copy, on the CPU, of all weights and buffers but those of frozen towers."""
        frozen = tuple(f"{name}_tower." for name in self.frozen)
        return {
            name: tensor.detach().cpu().clone()
            for name, tensor in self.state_dict().items()
            if not name.startswith(frozen)
        }

    def load_unfrozen(self, state: dict[str, Tensor]) -> None:
        """Load what `unfrozen_state` returned; frozen towers stay as they are."""
        self.load_state_dict(self.state_dict() | state)

    def parameter_groups(self) -> list[dict[str, object]]:
        """One optimiser group per part, frozen or not, so that no stage changes the optimiser's shape."""
        parts = {"image": self.image_tower, "text": self.text_tower, "block": self.block}
        return [{"params": list(part.parameters()), "part": name} for name, part in parts.items()]


def fingerprint(model: nn.Module, *, trained_only: bool = False) -> str:
    """Hash of a model's parameters and buffers: two models with the same one are equal bit by bit."""
    from data.atomic import digest

    parts: list[Tensor] = [p for p in model.parameters() if p.requires_grad or not trained_only]
    parts += [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    return digest(*(_bytes(part) for part in parts))


def _bytes(tensor: Tensor) -> memoryview:
    """The numbers of `tensor` as float32, without a copy where they lie so already."""
    return tensor.detach().float().cpu().contiguous().view(-1).numpy().view("uint8").data
