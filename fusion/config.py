"""Settings of training and evaluating the fusion."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from data.errors import InputError
from fusion.curriculum import PAPER_STAGES, Stage, TowerName
from fusion.text_noise import TextNoise

BlockName = Literal[
    "prmf", "prmf-paper", "image-only", "text-only", "late-average", "concatenation", "cross-attention", "film"
]
TextSource = Literal["captions", "description", "none"]
Balance = Literal["none", "weighted", "balanced-softmax", "sampler"]
Arm = Literal["image_only", "text_only", "fused"]
Aggregation = Literal["mean", "hard_vote", "tissue_weighted"]


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
    trust_remote_code: tuple[str, ...] = ()
    """Towers (by registered name or OWNER/NAME) whose own code may run, each by name; holds for this command and is not
    stored."""
    image_lora_rank: int = 0
    """Rank of the LoRA adapters that train in place of the image tower's own weights; 0 trains those."""
    text_lora_rank: int = 0
    """Rank of the LoRA adapters that train in place of the text tower's own weights; 0 trains those."""
    block: BlockName = "prmf"
    """Fusion block: prmf, which knows missing and wrong text, prmf-paper as published, or a baseline."""
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
    """How the learning rates move inside a stage; cosine falls over all its epochs, whether or not it ends early."""
    weight_decay: float = 0.0
    """Decoupled weight decay; 0 makes the optimiser plain Adam."""
    balance: Balance = "none"
    """What is done about rare classes: weighted (every class counts the same in the loss), balanced-softmax (arXiv
    2007.10740: log class counts are added to the logits in the training loss) or sampler (rows are drawn with
    replacement, all classes equally often)."""
    augment: tuple[TowerName, ...] = ()
    """Towers whose input varies while they train: image (patches are flipped, turned and restained) and text (the
    sentences of a text come in another order)."""
    stain_jitter: float = 0.1
    """Largest relative change of the density of a stain in augmentation."""
    text_dropout: float = 0.0
    """Probability that a training row is given no text."""
    text_swap_within: float = 0.0
    """Probability that a training row is given the text of another row of its class."""
    text_swap_across: float = 0.0
    """Probability that a training row is given the text of a row of another class: what teaches the gate distrust."""
    text_cut: float = 0.0
    """Probability that words of a training row's text are left out, anywhere or at its end, while the text tower
    trains."""
    gate_loss: float = 0.0
    """Weight of teaching the gate whether the text helps; 0 leaves it to the fused loss, as published."""
    near_duplicates: Literal["refuse", "allow"] = "refuse"
    """Whether patches that are nearly the same picture may be in two splits; those of equal pixels never may."""
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
        if self.balance not in get_args(Balance):
            raise InputError(
                f"balance: {self.balance} is none of {', '.join(get_args(Balance))}; what was true is now weighted, "
                "and what was false none"
            )
        if isinstance(self.augment, bool | str) or not set(self.augment) <= set(get_args(TowerName)):
            raise InputError(
                f"augment: {self.augment} is no list of image and text; what was true is now [image], and what was "
                "false []"
            )
        object.__setattr__(self, "augment", tuple(self.augment))
        if self.image_lora_rank < 0 or self.text_lora_rank < 0:
            raise InputError("image_lora_rank and text_lora_rank: must be 0 or more")
        noise = self.text_noise
        if min(noise.dropout, noise.swap_within, noise.swap_across, noise.cut) < 0 or noise.total > 1:
            raise InputError(
                "text_dropout, text_swap_within, text_swap_across and text_cut: none may be below 0, nor their sum "
                "above 1"
            )

    def as_published(self) -> "TrainConfig":
        """The same with text as it is and a gate that only the fused loss teaches, which `prmf-paper` stands for."""
        return replace(self, gate_loss=0.0, text_dropout=0.0, text_swap_within=0.0, text_swap_across=0.0, text_cut=0.0)

    @property
    def text_noise(self) -> TextNoise:
        """What is done to the training text."""
        return TextNoise(self.text_dropout, self.text_swap_within, self.text_swap_across, self.text_cut)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Measure a trained model on a split of the manifest."""

    model: Path
    """Folder that training wrote."""
    trust_remote_code: tuple[str, ...] = ()
    """Towers (by registered name or OWNER/NAME) whose own code may run, each by name; holds for this command and is not
    stored."""
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
    near_duplicates: Literal["refuse", "allow"] = "refuse"
    """Whether patches that are nearly the same picture may have been trained on; those of equal pixels never may."""
    robustness: bool = False
    """Also measure how the calls suffer from wrong text and worse images: robustness.csv, .json and .png."""
    seed: int = 2024
    """Seed of what is made wrong for that, and of the patients that the intervals draw."""
    batch_size: int = 64
    """Patches per forward pass."""
    device: str = "auto"
    """auto (a CUDA GPU where there is one, or the CPU), cpu, cuda, cuda:N or mps."""
    workers: int = 2
    """Threads that read images."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare two evaluations of the same patches, or two arms of one: differences with intervals, McNemar's test."""

    a: Path
    """Folder that `mmlnb evaluate` wrote."""
    b: Path | None = None
    """Folder of the other evaluation; the same one, where it is not given."""
    out: Path
    """Folder for comparison.json."""
    arm_a: Arm = "fused"
    """Arm of the first: fused, image_only or text_only."""
    arm_b: Arm = "fused"
    """Arm of the second."""
    aggregation: Aggregation = "tissue_weighted"
    """How the patches of a slide are brought together: tissue_weighted (as slides are called), mean or hard_vote."""
    seed: int = 2024
    """Seed of the patients that the intervals draw."""

    def __post_init__(self) -> None:
        """Check that there is something to compare."""
        if self.b in (None, self.a) and self.arm_a == self.arm_b:
            raise InputError(f"{self.a}: compared with itself; give another evaluation, or another --arm-b")
