"""The curriculum as data: what each stage trains, and how the weight of the fused loss moves."""

from dataclasses import dataclass
from typing import Literal

from data.errors import InputError

TowerName = Literal["image", "text"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the curriculum; the loss is alpha CE(fused) + (1 - alpha) CE(image)."""

    name: str
    """What the stage is called in progress and history."""
    epochs: int
    """Number of passes over the training rows."""
    freeze: tuple[TowerName, ...] = ()
    """Towers that do not train in this stage."""
    alpha_from: float = 1.0
    """Weight of the fused loss in the first epoch."""
    alpha_to: float | None = None
    """Weight that alpha does not go beyond; None keeps it at alpha_from."""
    alpha_step: float = 0.0
    """What is added to alpha after every alpha_every epochs."""
    alpha_every: int = 1
    """Number of epochs between two steps of alpha."""
    learning_rate: float | None = None
    """Learning rate of all parts that have none of their own; None takes the run's."""
    image_learning_rate: float | None = None
    """Learning rate of the image tower; None takes the stage's."""
    text_learning_rate: float | None = None
    """Learning rate of the text tower; None takes the stage's."""
    patience: int | None = None
    """Epochs without a lower validation loss of the stage after which it ends; the next stage goes on from its best
    epoch. None runs all epochs, and the next stage goes on from the last one."""

    def __post_init__(self) -> None:
        """Check the fields; a list of towers becomes a tuple."""
        object.__setattr__(self, "freeze", tuple(self.freeze))
        if self.epochs < 0 or self.alpha_every < 1:
            raise InputError(f"stage {self.name}: epochs must be 0 or more and alpha_every 1 or more")
        if not set(self.freeze) <= {"image", "text"}:
            raise InputError(f"stage {self.name}: freeze may name image and text, not {', '.join(self.freeze)}")
        for tower, rate in (("image", self.image_learning_rate), ("text", self.text_learning_rate)):
            if rate is not None and tower in self.freeze:
                raise InputError(
                    f"stage {self.name}: {tower}_learning_rate has no effect while {tower} is frozen; leave one of "
                    "them out"
                )
        rates = (self.learning_rate, self.image_learning_rate, self.text_learning_rate)
        if any(rate is not None and not rate > 0 for rate in rates):
            raise InputError(
                f"stage {self.name}: learning rates must be above 0; freeze a tower that is to stay as it is"
            )
        if self.patience is not None and self.patience < 1:
            raise InputError(f"stage {self.name}: patience must be 1 or more; leave it out to run all epochs")
        if not all(0 <= alpha <= 1 for alpha in (self.alpha_from, self.last_alpha)):
            raise InputError(f"stage {self.name}: alpha must lie between 0 and 1")

    @property
    def last_alpha(self) -> float:
        """Bound of alpha in this stage."""
        return self.alpha_from if self.alpha_to is None else self.alpha_to

    def alpha(self, epoch: int) -> float:
        """Weight of the fused loss in `epoch` of this stage, counted from 0."""
        moved = self.alpha_from + self.alpha_step * (epoch // self.alpha_every)
        bound = min if self.alpha_step >= 0 else max
        return round(bound(moved, self.last_alpha), 10)

    @property
    def closing_alpha(self) -> float:
        """Alpha of the last of `epochs`, at which all epochs of the stage are compared.

        Losses at an alpha that moves would compare epochs by different objectives.
        """
        return self.alpha(max(0, self.epochs - 1))

    def rate(self, part: str, *, default: float) -> float:
        """Learning rate of a part of the model (image, text or block), `default` being the run's."""
        own = {"image": self.image_learning_rate, "text": self.text_learning_rate}.get(part)
        stage = default if self.learning_rate is None else self.learning_rate
        return stage if own is None else own


PAPER_STAGES = (
    Stage(name="image", epochs=50, freeze=("text",), alpha_from=0.3),
    Stage(name="joint", epochs=50, alpha_from=0.3, alpha_to=1.0, alpha_step=0.14, alpha_every=10),
    Stage(name="fusion", epochs=50, freeze=("image", "text"), alpha_from=1.0),
)
"""The three stages of the paper (arXiv 2503.12927)."""
