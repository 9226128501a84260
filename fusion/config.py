"""Settings of training and evaluating the fusion."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.errors import InputError
from fusion.curriculum import PAPER_STAGES, Stage

TextSource = Literal["captions", "description", "none"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train image tower, text tower and fusion block under the curriculum."""

    manifest: Path
    """Manifest of the patches (patches.parquet) with the splits train and val."""
    out: Path
    """Folder for the model, its history and its calibration."""
    captions: Path | None = None
    """Folder with the captions of the patches (part-*.parquet)."""
    text_source: TextSource = "captions"
    """Where the text comes from: captions, the manifest's description, or none."""
    taxonomy: str = "neuroblastoma"
    """Taxonomy by name or YAML file; its classes are those of the model, in its order."""
    image_tower: str = "vgg16"
    """Image tower: a registered name, timm:NAME, open_clip:NAME, hf:NAME or a model folder."""
    text_tower: str = "bert-base-uncased"
    """Text tower: a registered name, open_clip:NAME, hf:NAME or a model folder."""
    pretrained: bool = True
    """Start from the towers' published weights; false builds the same architectures with random weights."""
    block: Literal["prmf", "prmf-paper"] = "prmf"
    """Fusion block: prmf-paper as published, or prmf, which knows missing text."""
    hidden: int = 256
    """Width of the gate's hidden layer."""
    dropout: float = 0.3
    """Dropout in front of the fused classifier."""
    stages: tuple[Stage, ...] = PAPER_STAGES
    """Stages of the curriculum, in order."""
    batch_size: int = 32
    """Rows per optimiser step, over all processes."""
    learning_rate: float = 1e-4
    """Learning rate of the stages that name none."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate moves inside a stage."""
    weight_decay: float = 0.0
    """Decoupled weight decay; 0 makes the optimiser plain Adam."""
    balance: bool = False
    """Weigh the rows so that every class counts the same in the loss."""
    augment: bool = False
    """Flip, turn and restain the patches while the image tower trains."""
    stain_jitter: float = 0.1
    """Largest relative change of the density of a stain in augmentation."""
    text_dropout: float = 0.0
    """Probability that a training row is given no text."""
    text_swap: float = 0.0
    """Probability that a training row is given the text of another row."""
    gate_loss: float = 0.0
    """Weight of teaching the gate whether the text helps; 0 leaves it to the fused loss, as published."""
    seed: int = 2024
    """Seed of weights, order, augmentation and dropout."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the towers; auto is bf16 where the device has it, on a CPU for large towers only."""
    device: str = "auto"
    """auto (each process its own CUDA GPU where there is one, or the CPU), cpu, cuda or mps."""
    workers: int = 2
    """Threads or processes that read images."""
    image_memory_gb: float = 4.0
    """Patches are kept in memory, at the input size of the tower, when all together need less than this."""
    features: Path | None = None
    """Folder of the frozen towers' features for several runs; None keeps them in `out` until the run is finished."""
    checkpoint_seconds: float = 60.0
    """A run that is cut off loses at most the epoch it is in and this many seconds before it."""

    def __post_init__(self) -> None:
        """Check what no single type can say."""
        if not sum(stage.epochs for stage in self.stages):
            raise InputError("stages: the curriculum has no epoch; give at least one stage with epochs above 0")
        if self.batch_size < 2:
            raise InputError("batch_size: must be 2 or more")
        if not (0 <= self.text_dropout <= 1 and 0 <= self.text_swap <= 1 - self.text_dropout):
            raise InputError("text_dropout and text_swap: each must be between 0 and 1, and so must their sum")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Measure a trained model on a split of the manifest."""

    model: Path
    """Folder that training wrote."""
    manifest: Path
    """Manifest of the patches (patches.parquet)."""
    out: Path
    """Folder for metrics.json and predictions.parquet."""
    captions: Path | None = None
    """Folder with the captions of the patches (part-*.parquet)."""
    text_source: TextSource = "captions"
    """Where the text comes from: captions, the manifest's description, or none."""
    split: Literal["train", "val", "test"] = "test"
    """Split to measure on."""
    batch_size: int = 64
    """Patches per forward pass."""
    device: str = "auto"
    """auto (a CUDA GPU where there is one, or the CPU), cpu, cuda, cuda:N or mps."""
    workers: int = 2
    """Threads that read images."""
