"""A folder of slides in; a subtype per slide, with the written findings, out."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from data.atomic import digest, write_text
from data.claim import claim
from data.command import config_yaml
from data.errors import InputError
from data.find_slides import find_slides, slide_id
from data.lease import Leases
from data.normalise import Stain, reference_stain
from data.read_tiles import PART
from data.reader_pool import ReaderPool
from data.readers.registry import choose_reader
from mmlnb.bundles import Bundle, load_bundle
from mmlnb.caption_budget import parse_caption
from mmlnb.chosen_captions import CaptionChoice
from mmlnb.config import InferConfig
from mmlnb.folder_state import FolderState, SilentState, records_table
from mmlnb.pages.folder_page import write_folder_page
from mmlnb.slide_call import SlideCaller, is_disk_full
from mmlnb.slide_manifest import SlideOverride, read_slide_manifest
from mmlnb.slide_prediction import SlidePipeline
from mmlnb.slide_record import SlideRecord, find_record, printable, write_record
from mmlnb.stain_reference import HELD_OUT, check_stain_reference

SOME_NOT_CALLED = 3
# Between two looks at the slides that other processes are at.
POLL_SECONDS = 2.0


@dataclass(frozen=True)
class FolderRun:
    """A folder of slides that was checked, and the output folder that was claimed for it."""

    config: InferConfig
    bundle: Bundle
    paths: dict[str, Path]
    """Name of every slide to its file."""
    overrides: dict[str, SlideOverride]
    reference: Stain | None
    """Stain that slides are normalised to."""

    def state(self) -> FolderState:
        """Where the run stands, for people and spreadsheets."""
        return FolderState(
            self.config.out,
            slides=list(self.paths),
            class_names=self.bundle.taxonomy.class_names,
            notice=self.bundle.index.notice,
        )


def infer(config: InferConfig) -> int:
    """Call every slide below `config.slides`; return 0, or 3 when some were not called.

    A slide that cannot be used is listed in slides.csv with its reason, and the others are finished. Slides that an
    earlier run with the same settings ended are not done again, and several processes may share one output folder.

    Raises:
        InputError: no bundle, no slides, an output folder that holds another run, a full disk, or no such executor.
    """
    if config.executor == "ray":
        from mmlnb.ray_executor import infer_on_ray

        return infer_on_ray(config)
    from mmlnb.local_executor import infer_on_devices

    return infer_on_devices(config)


def open_folder(config: InferConfig) -> FolderRun:
    """Check all that can be wrong before a model is loaded, and claim the output folder."""
    bundle = load_bundle(config.bundle)
    choose_reader(config.slides, config.reader)
    paths = {
        printable(slide_id(path, config.slides)): path for path in find_slides(config.slides, reader=config.reader)
    }
    overrides = read_slide_manifest(config.slide_manifest, set(paths))
    if config.coordinates is not None and not config.coordinates.is_dir():
        raise InputError(f"--coordinates {config.coordinates}: no such folder; give that of the HDF5 files")
    reference = find_reference(bundle, config, slides=paths.values())
    _claim(config, bundle, reference, caption_choice(config))
    return FolderRun(config, bundle, paths, overrides, reference)


def infer_here(run: FolderRun, *, device: str) -> int:
    """Call the slides that no other process is at with models on `device`, and wait for those of the others."""
    state = run.state()
    with slides_called_by(run, device=device) as (caller, leases), stopping_on_a_full_disk(run, state), state:
        share_slides(run.paths, run.overrides, caller=caller, leases=leases, state=state)
    return finish_folder(run, state)


@contextmanager
def slides_called_by(run: FolderRun, *, device: str) -> Iterator[tuple[SlideCaller, Leases]]:
    """What calls slides, with the models on `device`, and the leases it takes on them."""
    config, bundle = run.config, run.bundle
    pipeline = load_pipeline(bundle, replace(config, device=device), reference=run.reference)
    with Leases(config.out / "leases") as leases, start_readers(bundle, config) as pool:
        yield SlideCaller(config=config, bundle=bundle, pipeline=pipeline, pool=pool), leases


@contextmanager
def stopping_on_a_full_disk(run: FolderRun, state: FolderState) -> Iterator[None]:
    """Say in one line that the disk is full, and what is kept."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise InputError(
            f"{run.config.out}: the disk is full; {len(state.records())} of {len(run.paths)} slides are done and "
            "intact; make room and give the same command again"
        ) from error


def finish_folder(run: FolderRun, state: FolderState) -> int:
    """Tidy up, write the page of the folder, and print its table; returns the exit status."""
    out, bundle = run.config.out, run.bundle
    for folder in ("leases", "partial"):
        # Not empty where another process is still at it, or a slide that failed can be gone on with.
        with suppress(OSError):
            (out / folder).rmdir()
    records = state.records()
    write_folder_page(records, out, taxonomy=bundle.taxonomy, notice=bundle.index.notice)
    print(records_table(records, bundle.taxonomy))
    if any(record.status == "failed" for record in records):
        print("With --retry-failed the failed ones are tried again; a slide whose file was replaced is in any case.")
    if bundle.index.notice:
        print(bundle.index.notice)
    print(f"{out / 'index.html'}")
    return 0 if all(record.status == "ok" for record in records) else SOME_NOT_CALLED


def find_reference(bundle: Bundle, config: InferConfig, *, slides: Iterable[Path]) -> Stain | None:
    """The stain that `config` wants slides normalised to, if any; neither one of `slides` nor a tested patch."""
    if config.stain_reference is not None and config.normalise == "none":
        raise InputError(f"--stain-reference {config.stain_reference}: give --normalise macenko or reinhard with it")
    if config.stain_reference is not None:
        check_stain_reference(config.stain_reference, slides=slides, held_out=bundle.folder / HELD_OUT)
    return None if config.normalise == "none" else reference_stain(config.normalise, config.stain_reference)


def load_pipeline(bundle: Bundle, config: InferConfig, *, reference: Stain | None) -> SlidePipeline:
    """The models of `bundle`, loaded as `config` says; slides are normalised to the stain of `reference`."""
    return SlidePipeline(
        predictor=bundle.predictor(device=config.device),
        captioner=None
        if config.caption == "none"
        else bundle.captioner(device=config.device, batch_size=config.batch_size),
        taxonomy=bundle.taxonomy,
        batch_size=config.batch_size,
        notice=bundle.index.notice,
        reference=reference,
        keep_features=config.hdf5,
        choice=caption_choice(config),
    )


def start_readers(bundle: Bundle, config: InferConfig) -> ReaderPool:
    """Processes that read slides for the models of `bundle`."""
    return ReaderPool(workers=config.workers, slot_bytes=PART * bundle.index.tile_px**2 * 3)


def share_slides(
    paths: dict[str, Path],
    overrides: dict[str, SlideOverride],
    *,
    caller: SlideCaller,
    leases: Leases,
    state: FolderState | SilentState,
) -> None:
    """Do every slide that no other process is at, and wait until theirs have ended or they are gone."""
    config = caller.config
    # Those that failed before this run are tried again once, by whichever process comes first.
    failed = {record.slide: record.attempts for record in state.records() if record.status == "failed"}

    def ended(name: str) -> SlideRecord | None:
        record, override = find_record(config.out, name), overrides.get(name, SlideOverride())
        if record is None or not record.settles(
            file=caller.stamp(paths[name], name),
            stated_mpp=override.mpp,
            usual_mpp=config.mpp,
            any_stain=config.any_stain or override.any_stain,
        ):
            return None
        again = config.retry_failed and record.status == "failed" and failed.get(name) == record.attempts
        return None if again else record

    waiting = list(paths)
    state.update({}, now=True)
    with tqdm(total=len(paths), desc="Slides", unit="slide") as bar:
        while waiting:
            elsewhere: dict[str, str] = {}
            for name in waiting:
                if ended(name) is None:
                    lease = leases.take(name)
                    if lease is None:
                        elsewhere[name] = leases.holder(name) or "just ended"
                        continue
                    with lease:
                        # Its last owner may have ended it a moment ago.
                        if ended(name) is None:
                            bar.set_postfix_str(name)
                            state.update({**elsewhere, name: leases.holder(name) or "just lost"})
                            record = caller.call(paths[name], name, overrides.get(name, SlideOverride()), lease)
                            if record is None:
                                elsewhere[name] = "taken over"
                                continue
                            _add(record, config.out)
                bar.update()
                state.update(elsewhere)
            if len(elsewhere) == len(waiting):
                bar.set_postfix_str(f"waiting for {next(iter(elsewhere.values()))}")
                time.sleep(POLL_SECONDS)
            waiting = list(elsewhere)


def _add(record: SlideRecord, out: Path) -> None:
    before = find_record(out, record.slide)
    same_file = before is not None and before.file == record.file
    write_record(out, replace(record, attempts=before.attempts + 1 if before and same_file else 1))
    if record.status != "ok":
        tqdm.write(f"{record.slide}: {record.status}: {record.reason}")


def caption_choice(config: InferConfig) -> CaptionChoice | None:
    """How the patches to describe are chosen; None where all are, or none."""
    budget = parse_caption(config.caption)
    similarity = None if config.borrow == "none" else config.borrow_similarity
    return None if budget is None else CaptionChoice(budget, config.choose, similarity)


def _claim(config: InferConfig, bundle: Bundle, reference: Stain | None, choice: CaptionChoice | None) -> None:
    """Claim the output folder for what decides the results of every slide."""
    captions = config.caption if choice is None else str(choice)
    decisive = [str(config.slides.resolve()), bundle.key, captions, config.reader, repr(reference)]
    decisive += [repr(setting) for setting in (config.min_tissue, config.max_unreadable, config.hdf5)]
    decisive += [str(config.coordinates.resolve())] if config.coordinates else []
    claim(config.out, key=digest(*decisive))
    write_text(config.out / "config.yaml", config_yaml(config))
