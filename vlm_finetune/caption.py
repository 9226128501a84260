"""Describe every patch of a manifest: batched, sharded over processes, resumable row by row."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.atomic import digest, write_text
from data.caption_writers import write_writers
from data.captions import PATTERN, part_number, read_captions
from data.claim import check_claim, claim
from data.command import config_yaml, run_command
from data.errors import InputError
from data.manifest import read_manifest
from data.taxonomy import load_taxonomy
from vlm_finetune.caption_bar import CaptionBar
from vlm_finetune.caption_parts import PartWriter
from vlm_finetune.caption_row import CaptionRow
from vlm_finetune.caption_status import caption_status
from vlm_finetune.config import IMAGE_PX, QUESTION, SYSTEM, CaptionConfig
from vlm_finetune.copies import Copies
from vlm_finetune.near_copies import fresh_of_stretch, stretches, whole_stretches
from vlm_finetune.patch_source import Patch, own_rows, read_patches
from vlm_finetune.unseen import Place, Row, choose_adapters
from vlm_finetune.writers import find_writers

if TYPE_CHECKING:
    from vlm_finetune.decoding import Decoding
    from vlm_finetune.describer import Describer
    from vlm_finetune.prompt import PatchPrompt


def caption(config: CaptionConfig) -> Path:
    """Write captions of the manifest's patches to `config.out` and return that folder.

    Rows whose `key` is already there are not computed again; each process of `accelerate launch` takes its share.

    Raises:
        InputError: no rows, missing model, an adapter that does not fit, or a folder that holds another run.
    """
    from vlm_finetune.model import process_state, weights_key

    rows = select_rows(config)
    if config.status:
        print(caption_status(config.out, rows=len(rows)).summary())
        return config.out
    shares = choose_adapters(config.adapter, rows, allow_seen=config.seen_patients == "allow")
    state = process_state(config.device)
    _check_engine(config, processes=state.num_processes)
    # Loaded before the folder is claimed, so that what does not fit leaves no mark.
    captioner = load_captioner(config, shares[0][0])
    key = captioner.key if len(shares) == 1 else digest(captioner.key, *(weights_key(a) for a, _ in shares if a))
    # Every process looks before the first one writes its mark.
    check_claim(config.out, key=key)
    state.wait_for_everyone()
    if state.is_main_process:
        claim(config.out, key=key)
        write_writers(config.out, find_writers(config.model, [adapter for adapter, _ in shares]))
    state.wait_for_everyone()
    # Every process reads what is there before any writes, so that all number their parts from the same place.
    known = ("patch_id", "key", "error")
    existing = read_captions(config.out, missing_ok=True, columns=known)
    number = 1 + max((part_number(path) for path in config.out.glob(PATTERN)), default=-1)
    state.wait_for_everyone()
    if config.retry_errors:
        existing = existing[existing["error"].isna()]
    done = set(zip(existing["patch_id"], existing["key"], strict=True))
    own = [(adapter, _own(share, config, state)) for adapter, share in shares]

    parts = PartWriter(
        config.out, rank=state.process_index, number=number, rows_per_part=config.rows_per_part, done=done
    )
    copies = Copies(parts.add)
    with CaptionBar(total=sum(len(rows) for _, some in own for rows in some), shown=state.is_local_main_process) as bar:
        for adapter, some in own:
            if adapter != shares[0][0]:
                del captioner  # one model at a time
                captioner = load_captioner(config, adapter)
            wanted = _wanted(some, config, captioner, parts, copies, bar)
            for patch, one in captioner.stream((patch, patch.image) for patch in wanted if patch.image is not None):
                copies.described(CaptionRow.written(patch.patch_id, patch.key, one))
                bar.show(parts)
        parts.flush()
        bar.show(parts)
    state.wait_for_everyone()
    if copies.saved:
        print(f"{copies.saved} patches have the text of another with {_alike(config)} pixels")
    if state.is_main_process:
        write_text(config.out / "config.yaml", config_yaml(config))
        print(caption_status(config.out, rows=len(rows)).summary())
        folds = sum(len(share) for adapter, share in shares if adapter != config.adapter)
        if folds:
            print(f"{folds} of them by an adapter that has not seen their patient ({len(shares) - 1} folds)")
    return config.out


def select_rows(config: CaptionConfig) -> list[Row]:
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


def load_captioner(config: CaptionConfig, adapter: Path | None) -> "Describer":
    """The model of `config` with `adapter`, by the engine that is asked for.

    Raises:
        InputError: model or adapter missing, or not fitting each other or the prompt; a setting out of range.
    """
    prompt, taxonomy, decoding = asked_prompt(config), load_taxonomy(config.taxonomy), _decoding(config)
    beside = "" if config.dedupe is None else f"near {config.dedupe!r}"
    if config.engine == "vllm":
        from vlm_finetune.model import find_checkpoint
        from vlm_finetune.prompt import PatchPrompt
        from vlm_finetune.vllm_captioner import VllmCaptioner

        default = PatchPrompt.default(taxonomy)
        checkpoint = find_checkpoint(config.model, prompt=prompt, default_prompt=default, adapter=adapter)
        return VllmCaptioner(checkpoint, decoding=decoding, dtype=config.dtype, beside=beside)
    from vlm_finetune.captioner import Captioner

    return Captioner(
        model=config.model,
        adapter=adapter,
        prompt=prompt,
        taxonomy=taxonomy,
        decoding=decoding,
        batch_size=config.batch_size,
        device=config.device,
        dtype=config.dtype,
        beside=beside,
        remote_code=config.model in config.trust_remote_code,
    )


def _check_engine(config: CaptionConfig, *, processes: int) -> None:
    if config.engine == "vllm" and processes > 1:
        raise InputError(
            f"--engine vllm: with {processes} processes they would share one GPU; start one for each GPU, with "
            "CUDA_VISIBLE_DEVICES, a manifest and an --out of its own"
        )
    if config.engine == "vllm" and config.trust_remote_code:
        raise InputError("--trust_remote_code: --engine vllm runs no code of a model; set --engine transformers")
    if config.engine == "vllm" and config.dedupe is not None:
        raise InputError("--dedupe: vLLM hands out no image embeddings; set --engine transformers, or leave it out")


def _decoding(config: CaptionConfig) -> "Decoding":
    from vlm_finetune.decoding import Decoding

    for name, least in (("batch_size", 0), ("rows_per_part", 1), ("max_new_tokens", 1), ("alternatives", 0)):
        if getattr(config, name) < least:
            raise InputError(f"--{name} {getattr(config, name)}: give {least} or more")
    if config.dedupe is not None and not 0 < config.dedupe <= 1:
        raise InputError(f"--dedupe {config.dedupe:g}: a cosine; give more than 0 and at most 1, such as 0.98")
    if config.alternatives and config.alternatives_temperature <= 0:
        raise InputError(
            f"--alternatives_temperature {config.alternatives_temperature:g}: alternatives would all be alike; "
            "give more than 0"
        )
    return Decoding(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        repetition_penalty=config.repetition_penalty,
        max_repeats=config.max_repeats,
        alternatives=config.alternatives,
        alternatives_temperature=config.alternatives_temperature,
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


def _wanted(
    own: Sequence[Sequence[Row]],
    config: CaptionConfig,
    captioner: "Describer",
    parts: PartWriter,
    copies: Copies,
    bar: CaptionBar,
) -> Iterator[Patch]:
    """Patches of the stretches `own` that the model is to describe; those that cannot be read get their row at once."""

    def read() -> Iterator[Patch]:
        for patch in read_patches(list(chain.from_iterable(own)), config, captioner):
            if patch.error is not None:
                parts.add(CaptionRow.failed(patch.patch_id, patch.key, patch.error))
            if (patch.patch_id, patch.key) in parts.done:
                bar.skip()
            yield patch

    if config.dedupe is None:
        readable = (patch for patch in read() if patch.error is None)
        yield from copies.fresh(patch for patch in readable if (patch.patch_id, patch.key) not in parts.done)
        return
    for stretch in whole_stretches(read(), own):
        yield from fresh_of_stretch(stretch, copies, embed=captioner.embed, threshold=config.dedupe, done=parts.done)


def _own(share: Sequence[Row], config: CaptionConfig, state: Any) -> list[list[Row]]:
    """What this process describes: rows by turns, or whole stretches where near copies are looked for in them."""
    if config.dedupe is None:
        return [own_rows(share, state.process_index, state.num_processes)]
    return stretches(share)[state.process_index :: state.num_processes]


def _alike(config: CaptionConfig) -> str:
    return "equal" if config.dedupe is None else f"equal or nearly equal (cosine {config.dedupe:g} or more)"


if __name__ == "__main__":
    raise SystemExit(run_command(caption, CaptionConfig, name="caption"))
