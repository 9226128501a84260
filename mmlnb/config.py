"""Settings of the commands that compose the stages."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from data.errors import InputError
from mmlnb.caption_budget import StrategyName, parse_caption

ArmName = Literal[
    "image-only",
    "text-only",
    "base-text",
    "finetuned-text",
    "crossfitted-text",
    "concatenation",
    "prmf-paper",
    "prmf",
    "no-curriculum",
]
TextName = Literal["base", "finetuned", "crossfitted"]


@dataclass(frozen=True, kw_only=True)
class InferConfig:
    """Call the subtype of every slide in a folder, with the written findings behind it."""

    slides: Path
    """Folder of slides (searched recursively), or one slide."""
    out: Path
    """Folder for the results; an interrupted run goes on where it was."""
    bundle: str = "embedded"
    """Bundle to use: a folder, hf:OWNER/NAME as `mmlnb bundle pull` or `mmlnb prefetch` fetched it, or embedded for
    the one in the package, which was trained on synthetic tissue."""
    mpp: float | None = None
    """Resolution in µm per pixel for slides whose file states none."""
    slide_manifest: Path | None = None
    """CSV with the columns slide (path below the folder) and mpp, for single slides; it wins over the file. Its column
    any_stain (yes or no) is `--any-stain` for single slides."""
    reader: str = "auto"
    """What opens the files: openslide, tiffslide, or image for a folder of plain PNG, JPEG and TIFF images; auto takes
    OpenSlide, and a single plain image as such."""
    any_stain: bool = False
    """Use slides that do not look like H&E, which are skipped otherwise."""
    normalise: Literal["none", "macenko", "reinhard"] = "none"
    """Bring the colours of every slide to those of a reference (package torchstain)."""
    stain_reference: Path | None = None
    """H&E image with the colours to bring the slides to; Macenko can do without."""
    coordinates: Path | None = None
    """Folder of TRIDENT or CLAM files (HDF5) whose patches are used in place of our own tiling."""
    caption: str = "all"
    """Which patches are described: all, none (the image alone decides), budget=N (so many of each slide) or fraction=F
    (that share of each)."""
    choose: StrategyName = "mix"
    """How those to describe are chosen where not all are: random; uncertainty of the image's call; diversity (k-centre
    on the features of the image tower); or mix, of both with the weight in the slide's call."""
    borrow: Literal["none", "nearest"] = "none"
    """Whether a patch that is not described takes the text of the most similar one that is."""
    borrow_similarity: float = 0.9
    """Least cosine similarity of image features, less their mean over the slide, with which text is borrowed."""
    min_tissue: float = 0.5
    """Smallest share of tissue in a patch that is used."""
    max_unreadable: float = 0.05
    """Largest share of unreadable patches with which a slide is still called."""
    time_limit: float | None = None
    """Minutes after which a slide is failed; what was done of it is kept."""
    retry_failed: bool = False
    """Try slides again that failed in an earlier run."""
    hdf5: bool = False
    """Also write coordinates and features of the image tower as TRIDENT and CLAM read them."""
    batch_size: int = 64
    """Patches per batch; halves where memory runs out."""
    workers: int = 2
    """Processes that read the slide ahead of the models."""
    checkpoint_seconds: float = 30.0
    """How often the results inside a slide go to disk."""
    device: str = "auto"
    """auto (all GPUs of the machine, or the CPU), cpu, cuda, cuda:N or mps."""
    executor: Literal["local", "ray"] = "local"
    """Where the slides are called: local, on the devices of this machine; or ray, by workers on a Ray cluster."""
    devices: tuple[str, ...] = ()
    """Devices of this machine that share the slides, one process each, such as [cuda:0,cuda:2]; none for `device`."""
    ray_address: str | None = None
    """Ray cluster to use, such as auto or ray-head:6379; unset starts one on this machine."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        parse_caption(self.caption)
        if self.executor == "ray" and self.devices:
            raise InputError("--devices: the Ray cluster gives each worker its device; leave it out")
        if self.executor != "ray" and self.ray_address is not None:
            raise InputError(f"--ray_address {self.ray_address}: has no effect without --executor ray")
        for name, lowest, highest in (("min_tissue", 0, 1), ("max_unreadable", 0, 1), ("borrow_similarity", -1, 1)):
            if not lowest <= getattr(self, name) <= highest:
                raise InputError(f"--{name} {getattr(self, name)}: give {lowest} to {highest}")
        for name in ("batch_size", "workers"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)}: give 1 or more")
        for name, unit in (("mpp", "µm per pixel"), ("time_limit", "minutes")):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"--{name} {value:g}: give {unit} above 0")
        if not self.checkpoint_seconds >= 0:
            raise InputError(f"--checkpoint_seconds {self.checkpoint_seconds:g}: give 0 or more")


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Write the HTML report of a run folder."""

    run: Path
    """Folder with the sub-folders evaluate/, infer/, train/ and finetune/ (any may be missing), as `demo` makes it."""
    out: Path | None = None
    """Folder for the report; `report` inside the run if not given."""
    slide_pages: bool = False
    """Also write the pages of the called slides again, from the files that `infer` left and the slides themselves."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Run the whole path on synthetic tissue, on a laptop, offline."""

    out: Path = Path("runs/demo")
    """Folder for everything."""
    patients: int = 60
    """Patients with patches."""
    patches_per_patient: int = 24
    """Patches of each."""
    slides: int = 15
    """Whole slides, of patients of their own."""
    slide_px: int = 4096
    """Side of a slide in pixels at 0.5 µm/px."""
    finetune_epochs: float | None = None
    """Epochs of fine-tuning, if other than the preset's."""
    train_epochs: tuple[int, ...] = ()
    """Epochs of each curriculum stage, if other than the preset's."""
    seed: int = 2024
    """Seed of everything."""


@dataclass(frozen=True, kw_only=True)
class AblateConfig:
    """Train and evaluate the arms of an ablation over several seeds, and bring them into one table and one figure."""

    manifest: Path
    """Manifest of the patches (patches.parquet) with the splits train, val and test."""
    out: Path
    """Folder for the runs and the table; an interrupted ablation goes on where it was, and arms, texts and seeds may be
    added later."""
    captions: Path | None = None
    """Captions of all patches by a fine-tuned model, which may have been trained on the patients that it describes."""
    base_captions: Path | None = None
    """Captions of all patches by the model as it was before fine-tuning."""
    crossfitted_captions: Path | None = None
    """Captions of all patches by fine-tuned models that have not seen the patients they describe."""
    text: Literal["auto", "base", "finetuned", "crossfitted"] = "auto"
    """Text of the arms that do not name one; auto takes crossfitted, finetuned or base, the first that is given."""
    arms: tuple[ArmName, ...] = get_args(ArmName)
    """Arms to compare; those whose captions are not given are left out, and it is said."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of the training; every arm is trained and evaluated with each."""
    train_config: str = "tiny"
    """Preset or YAML file of `mmlnb train` that all arms start from."""
    device: str | None = None
    """Device of all runs, if other than that of train_config."""
    seed: int = 2024
    """Seed of the patients and training seeds that the intervals draw."""

    def __post_init__(self) -> None:
        """Check that there is something to compare, and nothing twice."""
        for name in ("arms", "seeds"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise InputError(f"--{name} [{','.join(map(str, given))}]: give one or more, none of them twice")


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Check that this machine can run everything: libraries, devices, memory, disk, embedded weights."""


@dataclass(frozen=True, kw_only=True)
class EncodersConfig:
    """List the registered encoders: what they take and give, their licence, and whether their weights are here."""

    modality: Literal["all", "image", "text"] = "all"
    """Which encoders are listed."""


@dataclass(frozen=True, kw_only=True)
class PrefetchConfig:
    """Download a model from the hub by name, so that everything else runs offline."""

    model: str
    """Hub name of a model or a bundle, the name of a registered encoder, or a preset's name for all that it uses; or a
    model folder whose weights are a pickle, to have them as safetensors."""
