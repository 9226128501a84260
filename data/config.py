"""Settings of `mmlnb prepare`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Check labelled patches and write the manifest, with a patient-grouped split."""

    source: Path
    """CSV with the columns file_name (relative to the CSV), patient_id, label; optional: description, findings (JSON
    object), slide_id, x, y, mpp, split. The column `class` is read as label."""
    out: Path
    """Manifest to write (.parquet)."""
    taxonomy: str = "neuroblastoma"
    """Taxonomy by name, or a YAML file."""
    descriptions: Literal["required", "optional"] = "required"
    """Whether a row of a CSV with a description column may leave it empty (such a row is not used for fine-tuning)."""
    val_fraction: float = 0.15
    """Share of the patients for validation; unused when the CSV has a split column."""
    test_fraction: float = 0.25
    """Share of the patients held out for testing; unused when the CSV has a split column."""
    seed: int = 2024
    """Seed of the split."""
