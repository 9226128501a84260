"""The patches to judge: caption, reference and what is known of each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.captions import read_captions
from data.errors import InputError
from data.findings import Mention, find_mentions, last_values, read_findings
from data.manifest import read_manifest
from data.taxonomy import Taxonomy


@dataclass(frozen=True)
class JudgedRow:
    """One patch with its caption."""

    patch_id: str
    patient: str
    """Patient, or the slide or patch itself where the patient is not known."""
    label: str | None
    text: str
    """The caption; empty where there is none, or an error in its place."""
    error: str | None
    described: bool
    """Whether the captions hold a row of this patch at all."""
    tokens: int
    reference: str | None
    truth: dict[str, str]
    """Findings known from the manifest, or else stated by the reference."""
    mentions: list[Mention]
    """What the caption states."""

    @property
    def stated(self) -> dict[str, str]:
        """Value of each finding that the caption states."""
        return last_values(self.mentions)


def read_rows(manifest: Path, captions: Path, *, split: str, taxonomy: Taxonomy) -> list[JudgedRow]:
    """Rows of `split` ("all" for every row), in the manifest's order.

    Raises:
        InputError: no such rows, none of them described, or known findings that `taxonomy` does not have.
    """
    frame = read_manifest(manifest)
    if split != "all":
        frame = frame[frame["split"] == split]
    if frame.empty:
        raise InputError(f"{manifest}: no rows in the split {split}; choose another with --split")
    written = read_captions(captions, columns=("patch_id", "text", "tokens", "error")).set_index("patch_id")
    described = set(written.index) & set(frame["patch_id"])
    if not described:
        raise InputError(f"{captions}: describes no patch of the split {split} of {manifest}; caption that split first")
    captions_of = written.to_dict("index")
    rows = []
    for row in frame.itertuples(index=False):
        caption: dict[str, Any] = captions_of.get(row.patch_id, {"text": None, "error": None, "tokens": 0})
        # As the fusion has it: a text beside an error is no text.
        text = "" if caption["error"] else (caption["text"] or "").strip()
        reference = (row.description or "").strip() or None
        rows.append(
            JudgedRow(
                patch_id=row.patch_id,
                patient=str(row.patient_id or row.slide_id or row.patch_id),
                label=row.label,
                text=text,
                error=caption["error"],
                described=row.patch_id in described,
                tokens=int(caption["tokens"] or 0),
                reference=reference,
                truth=_known(row, taxonomy, manifest) or (read_findings(reference, taxonomy) if reference else {}),
                mentions=find_mentions(text, taxonomy),
            )
        )
    return rows


def _known(row: Any, taxonomy: Taxonomy, manifest: Path) -> dict[str, str]:
    """Findings of the manifest, checked against `taxonomy`."""
    for name, value in (row.findings or {}).items():
        if name not in taxonomy.findings or value not in taxonomy.findings[name].values:
            raise InputError(
                f"{manifest}: {row.patch_id} has the finding {name}: {value}, which {taxonomy.name} lacks; give "
                " the taxonomy it was prepared with as --taxonomy"
            )
    return dict(row.findings or {})
