"""Describe a manifest on a Ray cluster with Ray Data; takes the settings of `mmlnb caption`, and writes the same rows.

Rows of the manifest stream through actors that hold the model, one on each GPU, or two cores where there is none. The
texts are small: they come back to the driver, which writes the parts, so that the run can be cut off and gone on with.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import ray

from data.caption_writers import write_writers
from data.captions import PATTERN, part_number, read_captions
from data.claim import claim
from data.command import parse_config, run_command
from data.errors import InputError
from vlm_finetune.caption import load_captioner, select_rows
from vlm_finetune.caption_parts import PartWriter, features
from vlm_finetune.caption_row import CaptionRow
from vlm_finetune.caption_status import caption_status
from vlm_finetune.config import CaptionConfig
from vlm_finetune.patch_source import Patch, read_patches
from vlm_finetune.unseen import Place, Row, choose_adapters
from vlm_finetune.writers import find_writers

# Rows that an actor is given at a time; its batch runs empty at the end of each.
BLOCK_ROWS = 512
CORES = 2


class Describe:
    """Describes blocks of rows; an actor has the model loaded once."""

    def __init__(self, config: CaptionConfig, adapter: Path | None, done: set[tuple[str, str]]) -> None:
        self.config = config
        self.captioner = load_captioner(config, adapter)
        self.done = done

    def __call__(self, block: pa.Table) -> pa.Table:
        """Caption rows, by the contract, of the rows of `block` that are not done."""
        rows = [_row(values) for values in block.to_pylist()]
        written: list[CaptionRow] = []
        wanted = ((patch, patch.image) for patch in self._wanted(rows, written) if patch.image is not None)
        for patch, caption in self.captioner.stream(wanted):
            written.append(CaptionRow.written(patch.patch_id, patch.key, caption))
        return pa.Table.from_pylist([asdict(row) for row in written], schema=features().arrow_schema)

    def _wanted(self, rows: list[Row], written: list[CaptionRow]) -> Iterator[Patch]:
        for patch in read_patches(rows, self.config, self.captioner):
            if (patch.patch_id, patch.key) in self.done:
                continue
            if patch.error is not None:
                written.append(CaptionRow.failed(patch.patch_id, patch.key, patch.error))
            else:
                yield patch


def describe(config: CaptionConfig) -> Path:
    """Describe the rows that `config` selects on the cluster of RAY_ADDRESS, or on one that is started here."""
    if config.dedupe is not None:
        raise InputError("--dedupe: compares neighbouring patches, which this recipe deals out; leave it out")
    rows = select_rows(config)
    shares = choose_adapters(config.adapter, rows, allow_seen=config.seen_patients == "allow")
    if len(shares) > 1:
        raise InputError(
            "--adapter: has folds; describe each fold's patients with its own adapter, in --out of its own"
        )
    adapter = shares[0][0]
    claim(config.out, key=load_captioner(config, adapter).key)
    write_writers(config.out, find_writers(config.model, [adapter]))
    known = read_captions(config.out, missing_ok=True, columns=("patch_id", "key", "error"))
    done = set(zip(known["patch_id"], known["key"], strict=True))
    number = 1 + max((part_number(path) for path in config.out.glob(PATTERN)), default=-1)
    parts = PartWriter(config.out, rank=0, number=number, rows_per_part=config.rows_per_part, done=done)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    actors = gpus or max(1, int(ray.cluster_resources().get("CPU", 1)) // CORES)
    captions = ray.data.from_arrow(pa.Table.from_pylist([_values(row) for row in rows], schema=ROWS)).map_batches(
        Describe,
        fn_constructor_args=(config, adapter, done),
        batch_size=min(BLOCK_ROWS, -(-len(rows) // actors)),
        batch_format="pyarrow",
        concurrency=actors,
        **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
    )
    for block in captions.iter_batches(batch_size=None, batch_format="pyarrow"):
        for values in block.to_pylist():
            parts.add(CaptionRow(**values))
    parts.flush()
    print(caption_status(config.out, rows=len(rows)).summary())
    return config.out


ROWS = pa.schema(
    [(name, pa.string()) for name in ("patch_id", "image", "patient_id", "slide_id")]
    + [(name, pa.int64()) for name in ("x", "y", "size_px")]
    + [("mpp", pa.float64())]
)
"""What an actor has to know of a patch."""


def _values(row: Row) -> dict[str, object]:
    return asdict(row) | (asdict(row.place) if row.place is not None else {})


def _row(values: dict[str, object]) -> Row:
    image = values["image"]
    place = None if image is not None else Place(**{name: values[name] for name in Place.__dataclass_fields__})  # type: ignore[arg-type]
    return Row(str(values["patch_id"]), image, values["patient_id"], place)  # type: ignore[arg-type]


def main() -> int:
    """Parse the settings, connect to the cluster, and describe."""
    parse_config(CaptionConfig, sys.argv[1:], name="caption")  # what is wrong there is said before a cluster starts
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS", "local")
    own = {"include_dashboard": False, "object_store_memory": 200 * 2**20} if address == "local" else {}
    ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    return run_command(describe, CaptionConfig, name="caption")


if __name__ == "__main__":
    raise SystemExit(main())
