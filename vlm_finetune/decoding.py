"""What is asked of a model about one patch, how its text is drawn, and what comes of it."""

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from data.atomic import digest

Item = TypeVar("Item")
CUT = "cut"
LOOP = "loop"


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How text is drawn from the model; temperature 0 is greedy."""

    max_new_tokens: int = 96
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    max_repeats: int = 4
    """Times that the same words may follow one another before a text is ended there; 0 for any number."""
    alternatives: int = 0
    """Further texts of each patch, drawn with `alternatives_temperature`: where they disagree, the model is unsure."""
    alternatives_temperature: float = 0.7
    seed: int = 2024

    @property
    def key(self) -> str:
        """Hash of what decides the text; greedy text does not depend on the sampling settings."""
        drawn = self.temperature > 0 or self.alternatives > 0
        sampled = (self.temperature, self.top_p, self.top_k, self.seed) if drawn else ()
        further = (self.alternatives, self.alternatives_temperature) if self.alternatives else ()
        return digest(repr((self.max_new_tokens, self.repetition_penalty, self.max_repeats, sampled, *further)))

    def draws(self) -> list["Decoding"]:
        """Of a patch's text, and of each alternative with a seed of its own."""
        text = replace(self, alternatives=0)
        warm = replace(text, temperature=self.alternatives_temperature)
        return [text, *(replace(warm, seed=_alternative_seed(self.seed, n)) for n in range(self.alternatives))]


@dataclass(frozen=True)
class Request(Generic[Item]):
    """A text to write about a patch."""

    item: Item
    """Whatever the caller knows it by."""
    image: np.ndarray
    """RGB uint8 (H, W, 3) of any size."""
    decoding: Decoding


@dataclass(frozen=True)
class Caption:
    """What the model wrote about one patch, or why there is nothing."""

    text: str
    tokens: int
    """Generated tokens, the end of turn included."""
    mean_logprob: float
    """Mean log-probability of those tokens; NaN where there are none."""
    error: str | None = None
    flags: tuple[str, ...] = ()
    """What is odd about the text: CUT where it met the limit before its end, LOOP where it repeated itself."""
    alternatives: tuple[str, ...] = ()
    """Further texts, where they were asked for."""


def _alternative_seed(seed: int, number: int) -> int:
    return int(digest("alternative", str(seed), str(number))[:15], 16)
