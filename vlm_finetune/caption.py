"""Describe every patch of a manifest: batched, sharded over processes, resumable row by row."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.atomic import atomic, digest, write_text
from data.captions import PATTERN, part_number, read_captions
from data.claim import check_claim, claim
from data.command import config_yaml, run_command
from data.errors import InputError
from data.manifest import read_manifest
from data.taxonomy import load_taxonomy
from vlm_finetune.caption_row import CaptionRow
from vlm_finetune.caption_status import caption_status
from vlm_finetune.config import IMAGE_PX, QUESTION, SYSTEM, CaptionConfig
from vlm_finetune.copies import Copies
from vlm_finetune.patch_source import Patch, own_rows, read_patches
from vlm_finetune.unseen import Place, Row, choose_adapters

if TYPE_CHECKING:
    from datasets import Features

    from vlm_finetune.captioner import Captioner
    from vlm_finetune.generate import Decoding
    from vlm_finetune.prompt import PatchPrompt


def caption(config: CaptionConfig) -> Path:
    """Write captions of the manifest's patches to `config.out` and return that folder.

    Rows whose `key` is already there are not computed again; each process of `accelerate launch` takes its share.

    Raises:
        InputError: no rows, missing model, an adapter that does not fit, or a folder that holds another run.
    """
    from tqdm import tqdm

    from vlm_finetune.model import process_state, weights_key

    rows = _select(config)
    if config.status:
        print(caption_status(config.out, rows=len(rows)).summary())
        return config.out
    shares = choose_adapters(config.adapter, rows, allow_seen=config.seen_patients == "allow")
    state = process_state(config.device)
    # Loaded before the folder is claimed, so that what does not fit leaves no mark.
    captioner = _captioner(config, shares[0][0])
    key = captioner.key if len(shares) == 1 else digest(captioner.key, *(weights_key(a) for a, _ in shares if a))
    # Every process looks before the first one writes its mark.
    check_claim(config.out, key=key)
    state.wait_for_everyone()
    if state.is_main_process:
        claim(config.out, key=key)
    state.wait_for_everyone()
    # Every process reads what is there before any writes, so that all number their parts from the same place.
    known = ("patch_id", "key", "error")
    existing = read_captions(config.out, missing_ok=True, columns=known)
    number = 1 + max((part_number(path) for path in config.out.glob(PATTERN)), default=-1)
    state.wait_for_everyone()
    if config.retry_errors:
        existing = existing[existing["error"].isna()]
    done = set(zip(existing["patch_id"], existing["key"], strict=True))
    own = [(adapter, own_rows(share, state.process_index, state.num_processes)) for adapter, share in shares]

    finished: list[CaptionRow] = []
    failed, tokens, started = 0, 0, time.monotonic()
    copies = Copies()
    total = sum(len(share) for _, share in own)
    with tqdm(total=total, desc="caption", unit="patch", disable=not state.is_local_main_process) as bar:
        for adapter, share in own:
            if adapter != shares[0][0]:
                del captioner  # one model at a time
                captioner = _captioner(config, adapter)
            todo = _unfinished(share, config, captioner, done, bar.update)
            for batch in copies.batches(todo, captioner.batch_size):
                fresh = copies.complete(_describe(batch, captioner))
                failed += sum(row.error is not None for row in fresh)
                tokens += sum(row.tokens for row in fresh)
                finished += fresh
                bar.update(len(fresh))
                bar.set_postfix(failed=failed, tokens_per_s=round(tokens / (time.monotonic() - started)))
                while len(finished) >= config.rows_per_part:
                    _write_part(finished[: config.rows_per_part], config.out, state.process_index, number)
                    finished, number = finished[config.rows_per_part :], number + 1
        if finished:
            _write_part(finished, config.out, state.process_index, number)
    state.wait_for_everyone()
    if copies.saved:
        print(f"{copies.saved} patches have the pixels of another and were not described again")
    if state.is_main_process:
        write_text(config.out / "config.yaml", config_yaml(config))
        print(caption_status(config.out, rows=len(rows)).summary())
        folds = sum(len(share) for adapter, share in shares if adapter != config.adapter)
        if folds:
            print(f"{folds} of them by an adapter that has not seen their patient ({len(shares) - 1} folds)")
    return config.out


def features() -> "Features":
    """Schema of the parts."""
    from datasets import Features, Value

    text = Value("string")
    return Features(
        {
            "patch_id": text,
            "text": text,
            "key": text,
            "tokens": Value("int32"),
            "mean_logprob": Value("float32"),
            "error": text,
            "flags": text,
        }
    )


def _select(config: CaptionConfig) -> list[Row]:
    """The rows to describe."""
    frame = read_manifest(config.manifest)
    wanted = frame[frame["split"].isna() | frame["split"].isin(config.splits)]
    if wanted.empty:
        raise InputError(f"{config.manifest}: no rows in the splits {', '.join(config.splits)}; set --splits")
    inside = wanted["image"].isna()
    if inside.any() and config.slides is None:
        raise InputError(
            f"{config.manifest}: {inside.sum()} rows such as {wanted.loc[inside, 'patch_id'].iloc[0]} have no image "
            "file; where they lie inside slides, give the slides' folder with --slides"
        )
    return [_row(one, manifest=config.manifest) for one in wanted.itertuples(index=False)]


def _row(one: Any, *, manifest: Path) -> Row:
    if one.image is not None:
        return Row(one.patch_id, one.image, one.patient_id)
    place = (one.slide_id, one.x, one.y, one.size_px, one.mpp)
    if any(value is None or value != value for value in place):
        raise InputError(f"{manifest}: {one.patch_id} has neither an image nor slide_id, x, y, size_px and mpp")
    where = Place(str(one.slide_id), int(one.x), int(one.y), int(one.size_px), float(one.mpp))
    return Row(one.patch_id, None, one.patient_id, where)


def _captioner(config: CaptionConfig, adapter: Path | None) -> "Captioner":
    from vlm_finetune.captioner import Captioner

    return Captioner(
        model=config.model,
        adapter=adapter,
        prompt=asked_prompt(config),
        taxonomy=load_taxonomy(config.taxonomy),
        decoding=_decoding(config),
        batch_size=config.batch_size,
        device=config.device,
        dtype=config.dtype,
    )


def _decoding(config: CaptionConfig) -> "Decoding":
    from vlm_finetune.generate import Decoding

    for name in ("batch_size", "rows_per_part", "max_new_tokens"):
        if getattr(config, name) < 1:
            raise InputError(f"--{name} {getattr(config, name)}: give 1 or more")
    return Decoding(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        repetition_penalty=config.repetition_penalty,
        max_repeats=config.max_repeats,
        seed=config.seed,
    )


def asked_prompt(config: CaptionConfig) -> "PatchPrompt | None":
    """Prompt that `config` asks for by any of its fields, the rest from the adapter or the defaults; else None."""
    from vlm_finetune.model import adapter_prompt
    from vlm_finetune.prompt import PatchPrompt

    given = (config.system, config.question, config.image_px)
    if given == (None, None, None):
        return None
    rest = PatchPrompt(system=SYSTEM, question=QUESTION, image_px=IMAGE_PX)
    if config.adapter is not None:
        rest = adapter_prompt(config.adapter)
    return PatchPrompt.fill(
        system=rest.system if config.system is None else config.system,
        question=rest.question if config.question is None else config.question,
        image_px=rest.image_px if config.image_px is None else config.image_px,
        taxonomy=load_taxonomy(config.taxonomy),
    )


def _unfinished(
    share: Sequence[Row],
    config: CaptionConfig,
    captioner: "Captioner",
    done: set[tuple[str, str]],
    skip: Callable[[int], object],
) -> Iterator[Patch]:
    """Patches of `share` that are not `done`; `skip` is told of each that is."""
    for patch in read_patches(share, config, captioner):
        if (patch.patch_id, patch.key) in done:
            skip(1)
        else:
            yield patch


def _describe(batch: Sequence[Patch], captioner: "Captioner") -> list[CaptionRow]:
    written = iter(captioner.describe([patch.image for patch in batch if patch.image is not None]))
    rows = []
    for patch in batch:
        if patch.image is None:
            rows.append(CaptionRow(patch.patch_id, None, patch.key, 0, None, patch.error, ""))
            continue
        one = next(written)
        flags = ",".join(one.flags)
        row = CaptionRow(patch.patch_id, one.text or None, patch.key, one.tokens, one.mean_logprob, one.error, flags)
        rows.append(row)
    return rows


def _write_part(rows: list[CaptionRow], out: Path, rank: int, number: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=features().arrow_schema)
    with atomic(out / f"part-{rank}-{number}.parquet") as temporary:
        pq.write_table(table, temporary)


if __name__ == "__main__":
    raise SystemExit(run_command(caption, CaptionConfig, name="caption"))
