"""What is known about an encoder: data that a loader turns into a tower."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Modality = Literal["image", "text"]
Loader = Literal["timm", "open_clip", "transformers", "package"]
Interpolation = Literal["bilinear", "bicubic"]
Colour = tuple[float, float, float]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
CLIP_MEAN: Colour = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Colour = (0.26862954, 0.26130258, 0.27577711)
HALF: Colour = (0.5, 0.5, 0.5)
OPTIMUS_MEAN: Colour = (0.707223, 0.578729, 0.703617)
OPTIMUS_STD: Colour = (0.211883, 0.230117, 0.177517)
HIBOU_MEAN: Colour = (0.7068, 0.5755, 0.722)
HIBOU_STD: Colour = (0.195, 0.2316, 0.1816)


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a square patch of any size becomes the square that an image tower is given."""

    size: int
    """Side in pixels of what the tower is given."""
    resize: int
    """Side in pixels that the patch is resized to, before the centre is cut out."""
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True, kw_only=True)
class TowerRecord:
    """One encoder of one modality.

    Fields that are None are read from the model itself when it is loaded.
    """

    name: str
    modality: Modality
    loader: Loader
    """What loads it; package where none of the three can, but a package of its authors alone."""
    source: str
    """What the loader is given: a model name, `hf-hub:owner/name` or `local-dir:folder`."""
    licence: str
    dim: int | None = None
    """Length of the feature vector."""
    image_size: int | None = None
    """Side in pixels of the square that an image tower is given."""
    resize: int | None = None
    """Side in pixels that a patch is resized to before its centre, `image_size` wide, is cut out."""
    interpolation: Interpolation | None = None
    mean: Colour | None = None
    std: Colour | None = None
    text_length: int | None = None
    """Longest text in tokens; longer text is cut."""
    pooling: str = "model"
    """model (the encoder's own), mean (over positions), class token, class token and mean (of the patch tokens, side by
    side), pooler, or projection (to the space that image and text of a CLIP-like model share)."""
    mpp: float | None = None
    """Resolution in µm per pixel that the encoder was trained at, where it matters."""
    gated: bool = False
    """Whether the licence must be accepted on the model's page before the weights can be fetched."""
    remote_code: bool = False
    """Whether the model needs code that is fetched with it, which runs only where the caller allows it."""
    package: str | None = None
    """Page of the package that alone can load it."""
    has_weights: bool = True
    """False for a tower that is built from `architecture` and trained from scratch."""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the architecture; enough to build it where there are no weights."""

    @property
    def repository(self) -> str | None:
        """Repository of the weights on the Hugging Face hub, or None where it is another place."""
        if self.source.startswith("local-dir:") or not self.has_weights:
            return None
        for prefix in ("hf-hub:", "hf_hub:"):
            if self.source.startswith(prefix):
                return self.source.removeprefix(prefix)
        if self.loader == "timm":
            return f"timm/{self.source}"
        return self.source if self.loader == "transformers" else None
