"""List the registered encoders, with their licences and whether their weights are on this machine."""

from fusion.record import TowerRecord
from fusion.towers import TOWERS, weights_present
from mmlnb.config import EncodersConfig

HEADINGS = ("name", "modality", "loader", "dim", "input", "µm/px", "licence", "needs", "weights")


def encoders(config: EncodersConfig) -> None:
    """Print one line per registered encoder of `config.modality`."""
    rows = [HEADINGS, *(_row(record) for record in TOWERS if config.modality in ("all", record.modality))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\nWeights that are not here: `mmlnb prefetch NAME`. A gated encoder asks for its licence to be accepted at")
    print("huggingface.co first. Any other: timm:NAME, open_clip:NAME, hf:NAME or a model folder.")


def _row(record: TowerRecord) -> tuple[str, ...]:
    needs = {"accepted licence": record.gated, "its own code": record.remote_code, "its own package": record.package}
    weights = ("here" if weights_present(record) else "not here") if record.has_weights else "none needed"
    return (
        record.name,
        record.modality,
        record.loader,
        str(record.dim),
        _input(record),
        "" if record.mpp is None else f"{record.mpp:g}",
        record.licence,
        ", ".join(need for need, needed in needs.items() if needed),
        weights,
    )


def _input(record: TowerRecord) -> str:
    if record.modality == "text":
        return f"{record.text_length} tokens"
    cut = "" if record.resize == record.image_size else f" of {record.resize}"
    return f"{record.image_size}{cut} px"
