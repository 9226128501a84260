"""Settings of `mmlnb prepare`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Check labelled patches and write the manifest, with a patient-grouped split."""

    source: Path
    """CSV with the columns file_name (relative to the CSV), patient_id, label; optional: description, findings (JSON
    object), slide_id, x, y, mpp, split. The column `class` is read as label. Or JSON (Lines) of chats (`messages`, or
    LLaVA's `conversations`) with the same names beside; or a Hugging Face dataset, as a folder or as OWNER/NAME in the
    hub's cache. Which of them it is, is recognised."""
    out: Path
    """Manifest to write (.parquet)."""
    taxonomy: str = "neuroblastoma"
    """Taxonomy by name, or a YAML file."""
    images: Path | None = None
    """Folder that relative image paths start from; by default the folder of the source."""
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
