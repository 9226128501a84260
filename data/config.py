"""Settings of `mmlnb prepare`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Check labelled patches and write the manifest, with a patient-grouped split."""

    source: Path
    """CSV with the columns file_name (relative to the CSV), patient_id, label; optional: description, findings (JSON
    object), slide_id, x, y, mpp, split, site. The column `class` is read as label. Or JSON (Lines) of chats
    (`messages`, or LLaVA's `conversations`) with the same names beside; or a folder with `images` and such a CSV, or of
    such folders (docs/paper.md); or a Hugging Face dataset, as a folder or as OWNER/NAME in the hub's cache. Which of
    them it is, is recognised."""
    out: Path
    """Manifest to write (.parquet)."""
    taxonomy: str = "neuroblastoma"
    """Taxonomy by name, or a YAML file."""
    images: Path | None = None
    """Folder that relative image paths start from; by default the folder of the source."""
    outside: Literal["refuse", "allow"] = "refuse"
    """Whether images may lie outside the folder that paths start from and that of the source, by `..`, an absolute path
    or a link: a source from others could name any file here."""
    patient_pattern: str | None = None
    """Regular expression whose group 1, searched for in the file name, is the patient; for sources that do not state
    patients."""
    no_patients: bool = False
    """Count every image as a patient of its own where patients are not known. Images of one patient may then be in
    train and test, and measures come out too good."""
    descriptions: Literal["required", "optional"] = "required"
    """Whether a row of a source with descriptions may leave its own empty (such a row is not used for fine-tuning)."""
    mask_classes: bool = False
    """Replace the class where a description names it outright by "this tumour"."""
    val_fraction: float = 0.15
    """Share of the patients for validation; unused when the source gives splits."""
    test_fraction: float = 0.25
    """Share of the patients held out for testing; unused when the source gives splits."""
    seed: int = 2024
    """Seed of the split."""
    by: Literal["patient", "site"] = "patient"
    """What is never in two splits; with site, whole sites are held out."""
    site_pattern: str | None = None
    """Regular expression whose group 1, searched for in patient_id, is the site; for sources without a column site."""
    near_duplicates: Literal["refuse", "allow"] = "refuse"
    """Whether patches that are nearly the same picture may be in two splits; those of equal pixels never may."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Deal the patients of a manifest into folds, each a manifest of its own, for cross-validation."""

    manifest: Path
    """Manifest (patches.parquet) as `mmlnb prepare` writes it; the splits in it are replaced."""
    out: Path
    """Folder for folds.parquet (who is what in which fold) and fold-1/patches.parquet and so on."""
    folds: int = 5
    """Folds; each is tested once."""
    inner: int = 0
    """Inner folds of each fold, for choosing settings without its test patients: fold-1/inner-1/patches.parquet and so
    on, each validated once and without test rows; 0 for none."""
    by: Literal["patient", "site"] = "patient"
    """What is never on two sides; with site, whole sites are held out."""
    site_pattern: str | None = None
    """Regular expression whose group 1, searched for in patient_id, is the site; for manifests without sites."""
    splits: tuple[str, ...] = ("train", "val", "test")
    """Splits whose patients are dealt; [train,val] keeps the test patients of the manifest out of every fold."""
    val_fraction: float = 0.15
    """Share of the patients that validates each fold, at least one; they are taken from those it is not tested on."""
    near_duplicates: Literal["refuse", "allow"] = "refuse"
    """Whether patches of two patients may be nearly the same picture; those of equal pixels never may."""
    seed: int = 2024
    """Seed of the folds."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.folds < 2:
            raise InputError(f"--folds {self.folds}: give 2 or more")
        if self.inner < 0 or self.inner == 1:
            raise InputError(f"--inner {self.inner}: give 2 or more, or 0 for none")
        if not 0 < self.val_fraction < 1:
            raise InputError(f"--val_fraction {self.val_fraction:g}: give more than 0 and less than 1")


@dataclass(frozen=True, kw_only=True)
class TileConfig:
    """List the tissue of every slide in a folder as patches, without cutting them out."""

    slides: Path
    """Folder of slides (searched recursively), or one slide."""
    out: Path
    """Manifest to write, patches.parquet; slides that are left out go to a CSV of its name, with the reason."""
    mpp: float | None = None
    """Resolution in µm per pixel for slides whose file states none."""
    target_mpp: float = 0.5
    """Resolution of the patches in µm per pixel."""
    tile_px: int = 224
    """Side of a patch in pixels of that resolution."""
    min_tissue: float = 0.5
    """Smallest share of tissue in a patch."""
    any_stain: bool = False
    """Use slides that do not look like H&E, which are left out otherwise."""
    reader: str = "auto"
    """What opens the files: openslide, tiffslide or image; auto takes OpenSlide, and a single plain image as such."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("mpp", "target_mpp", "tile_px"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"--{name} {value:g}: give more than 0")
        if not 0 <= self.min_tissue <= 1:
            raise InputError(f"--min_tissue {self.min_tissue:g}: give 0 to 1")
