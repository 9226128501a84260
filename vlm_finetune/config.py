"""Settings of fine-tuning and captioning."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.errors import InputError

SYSTEM = "You are a pathologist specialised in {tissue}."
QUESTION = "Describe what is seen microscopically on this {tissue} image."
IMAGE_PX = 112


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Teach a vision-language model to describe patches, by a LoRA adapter or as a whole."""

    manifest: Path
    """Manifest (patches.parquet) whose train rows with a description are the training pairs."""
    out: Path
    """Output folder: adapter/ (model/ with `--tune full`), prompt.json, taxonomy.yaml, config.yaml, data.json,
    split.json, trained_on.json, versions.json, metrics.json, history.csv, samples.md; an interrupted run goes on."""
    taxonomy: str = "neuroblastoma"
    """Taxonomy by name or YAML file; its tissue fills the prompt, its lexicon judges the samples."""
    model: str = "tiny"
    """Base model: "tiny", a folder, or a hub name fetched before with `mmlnb prefetch`."""
    trust_remote_code: tuple[str, ...] = ()
    """Models (OWNER/NAME or folder) whose own code may run, each by name; holds for this command and is not stored."""
    system: str = SYSTEM
    """System message; {tissue} is replaced by the taxonomy's tissue; empty for none."""
    question: str = QUESTION
    """Question asked about each patch; {tissue} is replaced."""
    image_px: int = IMAGE_PX
    """Side in pixels that every patch is resized to, in training and captioning alike."""
    epochs: float = 5.0
    """Passes over the training pairs."""
    learning_rate: float = 1e-4
    """Peak learning rate of AdamW."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How the learning rate falls to 0, once it has warmed up linearly."""
    warmup_share: float = 0.03
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.0
    """Weight decay of AdamW."""
    batch_size: int = 4
    """Pairs per step and device."""
    accumulation: int = 4
    """Steps whose gradients are summed before the weights move."""
    tune: Literal["lora", "full"] = "lora"
    """Train an adapter beside the frozen model, or all weights of a small model, which is then saved as a whole."""
    quantise: Literal["none", "4bit"] = "none"
    """Keep the frozen base in 4 bits (QLoRA, arXiv 2305.14314); needs CUDA and the package bitsandbytes."""
    lora_variant: Literal["lora", "dora", "rslora"] = "lora"
    """Plain LoRA, DoRA (arXiv 2402.09353: magnitudes of their own), or rsLoRA (arXiv 2312.03732: alpha / √rank)."""
    lora_rank: int = 64
    """Rank of the adapter."""
    lora_alpha: float = 16.0
    """Scale of the adapter; the update of a layer is multiplied by alpha / the layer's rank."""
    lora_dropout: float = 0.05
    """Dropout ahead of the adapter."""
    lora_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Linear layers of the language model that are adapted."""
    lora_vision: bool = False
    """Adapt the vision tower as well."""
    lora_vision_rank: int | None = None
    """Rank in the vision tower; unset takes `lora_rank`."""
    lora_projector: bool = False
    """Adapt the layers between vision tower and language model as well."""
    lora_projector_rank: int | None = None
    """Rank in these layers; unset takes `lora_rank`."""
    max_length: int = 8192
    """Longest prompt with answer in tokens; longer answers are shortened and counted."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    dtype: str = "auto"
    """float32, bfloat16, float16 or auto: bfloat16 on a GPU; on a CPU float32, multiplied in bfloat16 where it has the
    instructions."""
    cache_images: bool = True
    """Keep in memory what does not change of the images: what the frozen vision tower makes of them, or their pixels
    where it is trained."""
    evaluations: int = 1
    """How often the validation loss is measured, evenly over the training; the last time is its end."""
    crossfit: int = 0
    """Also train so many adapters (2 or more) in OUT/crossfit, each without a fold of the training patients, so that
    every patient can be described by an adapter that has not seen them; 0 for none."""
    fold: int = 0
    """Train only the adapter without this fold of `crossfit`, to spread the folds over machines; 0 for all."""
    early_stopping: Literal["none", "loss", "finding_f1"] = "none"
    """Stop when this stops improving on the validation patches, and keep the adapter of the best evaluation; with none,
    the last one is kept."""
    patience: int = 3
    """Evaluations without an improvement after which the training stops; as many as `evaluations` never stops it."""
    sample_patches: int = 32
    """Validation patches that are described at each evaluation, for samples.md and the finding macro-F1."""
    sample_tokens: int = 96
    """Longest description of these, in tokens."""
    checkpoint_seconds: float = 60.0
    """How often everything that resuming needs goes to disk; at most so much is lost when the run is killed."""
    trackers: tuple[str, ...] = ()
    """Where the Trainer also reports to, by its names, such as tensorboard (in OUT/tensorboard), wandb or mlflow."""
    workers: int = 0
    """Processes that load images beside the training."""
    seed: int = 2024
    """Seed of the adapter's start, the order and the dropout."""
    device: str = "auto"
    """auto (each process its own CUDA GPU where there is one, or the CPU), cpu, cuda or mps."""

    def __post_init__(self) -> None:
        """Check the ranges, and that no setting is without effect."""
        positive = ("epochs", "learning_rate", "batch_size", "accumulation", "lora_rank", "lora_alpha", "evaluations")
        for name in (*positive, "patience"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{name} {getattr(self, name)}: give more than 0")
        if not self.checkpoint_seconds >= 0:
            raise InputError(f"--checkpoint_seconds {self.checkpoint_seconds:g}: give 0 or more")
        for part in ("vision", "projector"):
            rank = getattr(self, f"lora_{part}_rank")
            if rank is not None and not getattr(self, f"lora_{part}"):
                raise InputError(f"--lora_{part}_rank {rank}: has no effect without --lora_{part}")
            if rank is not None and rank < 1:
                raise InputError(f"--lora_{part}_rank {rank}: give 1 or more")
        if self.tune == "full":
            adapter_only = {"quantise": "none", "lora_variant": "lora", "lora_vision": False, "lora_projector": False}
            adapter_only |= {"crossfit": 0}
            for name, default in adapter_only.items():
                if getattr(self, name) != default:
                    raise InputError(f"--{name}: belongs to an adapter, and --tune full trains none; leave one out")
        if self.crossfit < 0 or self.crossfit == 1 or not 0 <= self.fold <= self.crossfit:
            raise InputError(
                f"--crossfit {self.crossfit} --fold {self.fold}: give 2 folds or more, and a fold among them"
            )
        if self.early_stopping != "none" and self.evaluations < 2:
            raise InputError(f"--early_stopping {self.early_stopping}: has nothing to choose from; raise --evaluations")


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """Describe every patch of a manifest."""

    manifest: Path
    """Manifest (patches.parquet) of the patches."""
    out: Path
    """Output folder of the parts, part-<rank>-<n>.parquet; an interrupted run goes on from them."""
    slides: Path | None = None
    """Folder of the slides, where the manifest lists places in slides (`mmlnb tile` writes such a one)."""
    mpp: float | None = None
    """Resolution in µm per pixel for slides whose file states none."""
    workers: int = 1
    """Processes that read slides ahead of the model."""
    taxonomy: str = "neuroblastoma"
    """Taxonomy by name or YAML file; its tissue fills the prompt where there is no adapter."""
    model: str = "tiny"
    """Model: "tiny", a folder, or a hub name fetched before with `mmlnb prefetch`."""
    trust_remote_code: tuple[str, ...] = ()
    """Models (OWNER/NAME or folder) whose own code may run, each by name; holds for this command and is not stored."""
    adapter: Path | None = None
    """Output folder of `mmlnb finetune`; none describes with the model as it is."""
    system: str | None = None
    """System message; unset takes the adapter's, and one that differs from it is refused."""
    question: str | None = None
    """Question; unset takes the adapter's, and one that differs from it is refused."""
    image_px: int | None = None
    """Side in pixels; unset takes the adapter's, and one that differs from it is refused."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What runs the model; vllm needs an environment of its own."""
    splits: tuple[str, ...] = ("train", "val", "test")
    """Splits to describe; rows without a split are always described."""
    seen_patients: Literal["refuse", "allow"] = "refuse"
    """Whether patients whom every adapter was trained on may be described: text on them is surer than on others."""
    batch_size: int = 0
    """Patches described at once on each device; 0 for as many as memory seems to allow. Halves where it runs out."""
    dedupe: float | None = None
    """Describe patches once that are nearly alike: the cosine of their image embeddings (means of the tokens that the
    vision tower makes) is at least this. Only patches near one another in the manifest are compared."""
    rows_per_part: int = 256
    """Rows in each part; at most so many are lost when the run is killed."""
    max_new_tokens: int = 96
    """Longest caption in tokens."""
    temperature: float = 0.0
    """0 takes the most likely token each time; above, tokens are sampled."""
    top_p: float = 1.0
    """Sample from the most likely tokens that make up this share of the probability."""
    top_k: int = 0
    """Sample from so many of the most likely tokens; 0 for all."""
    repetition_penalty: float = 1.0
    """Divides the scores of tokens already written; 1 for none."""
    max_repeats: int = 4
    """Times that the same words may follow one another before a caption is ended there and flagged; 0: any number."""
    alternatives: int = 0
    """Further texts of each patch, sampled; where they disagree, the model is unsure."""
    alternatives_temperature: float = 0.7
    """Temperature at which these are sampled."""
    retry_errors: bool = False
    """Describe again the rows of an earlier run that have an error."""
    status: bool = False
    """Only say how far the run in `out` is, from any terminal."""
    seed: int = 2024
    """Seed of sampling; each row draws from its own pixels and this."""
    dtype: str = "auto"
    """float32, bfloat16, float16 or auto: bfloat16 on a GPU, float32 elsewhere."""
    device: str = "auto"
    """auto (each process its own CUDA GPU where there is one, or the CPU), cpu, cuda, cuda:N or mps."""
