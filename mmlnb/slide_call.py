"""One slide from its file to its record and outputs; whatever is wrong with it becomes its record."""

import errno
import os
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.atomic import digest, write_text
from data.errors import InputError
from data.lease import Lease
from data.patch_hdf5 import find_patch_file
from data.plain_reason import plain_reason, plain_trace
from data.prepared_slide import NotForUs, PreparedSlide, SlideRequest, prepare_slide
from data.read_tiles import read_tiles
from data.reader_pool import ReaderPool, ReaderStopped
from data.tiles import Tile
from fusion.aggregate import aggregate
from mmlnb.bundles import Bundle
from mmlnb.called_slide import just_called
from mmlnb.config import InferConfig
from mmlnb.pages.slide_page import write_slide_page
from mmlnb.partial_results import PartialResults, TakenOver
from mmlnb.slide_manifest import SlideOverride
from mmlnb.slide_outputs import output_path, remove_outputs, write_hdf5, write_tables
from mmlnb.slide_prediction import SlidePipeline, SlidePrediction
from mmlnb.slide_record import LONGEST_NAME_BYTES, SlideRecord, file_stamp, is_too_long, printable

DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class SlideCaller:
    """Calls slides, one at a time."""

    config: InferConfig
    bundle: Bundle
    pipeline: SlidePipeline
    pool: ReaderPool

    def call(self, path: Path, name: str, override: SlideOverride, lease: Lease) -> SlideRecord | None:
        """Do the slide `name` at `path` and return its record; None where another process has taken it over.

        Raises:
            OSError: the disk is full, which is not a matter of this slide.
        """
        started = time.monotonic()
        base, request = self.base(path, name, override), self.request(override)
        if is_too_long(name):
            reason = f"{path}: its name is longer than {LONGEST_NAME_BYTES} bytes; rename it"
            return replace(base, reason=_line(reason))
        partial = PartialResults(
            self.config.out / "partial" / digest(name),
            key=digest(base.file, repr(request)),
            seconds=self.config.checkpoint_seconds,
            held=lease.held,
        )
        remove_outputs(self.config.out, name)
        unfinished = False
        try:
            record = self._call(path, base, request, partial, lease, started=started)
        except TakenOver:
            # This process was suspended, and the other writes the same outputs.
            return None
        except NotForUs as error:
            record = replace(base, status="skipped", reason=_line(error))
        except ReaderStopped as error:
            # What was done is right, and a later attempt goes on from there.
            unfinished = True
            record = replace(base, reason=_line(error))
        except InputError as error:
            record = replace(base, reason=_line(error))
        except Exception as error:
            if is_disk_full(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            record = replace(base, reason=self._unexpected(path, name, error))
        if not lease.held():
            return None
        if unfinished:
            partial.write()
        else:
            partial.remove()
        return replace(record, seconds=time.monotonic() - started)

    def base(self, path: Path, name: str, override: SlideOverride) -> SlideRecord:
        """Record of a slide that nothing is known of yet."""
        return SlideRecord(
            slide=name,
            status="failed",
            file=self.stamp(path, name),
            stated_mpp=override.mpp,
            usual_mpp=self.config.mpp,
            any_stain=self.config.any_stain or override.any_stain,
            notice=self.pipeline.notice,
        )

    def request(self, override: SlideOverride) -> SlideRequest:
        """How a slide is opened and cut into tiles."""
        return SlideRequest(
            target_mpp=self.bundle.index.target_mpp,
            tile_px=self.bundle.index.tile_px,
            min_tissue=self.config.min_tissue,
            reader=self.config.reader,
            any_stain=self.config.any_stain or override.any_stain,
            manifest_mpp=override.mpp,
            command_line_mpp=self.config.mpp,
            reference=self.pipeline.reference,
            coordinates=self.config.coordinates,
        )

    def stamp(self, path: Path, name: str) -> str:
        """What tells that the files of the slide are still the same: its own, and that of given coordinates."""
        stamp = file_stamp(path)
        if self.config.coordinates is None:
            return stamp
        try:
            given = find_patch_file(self.config.coordinates, name)
        except InputError:
            # Two files fit; the call says so.
            given = None
        return f"{stamp} {file_stamp(given) if given else 'none'}"

    def predict(
        self,
        path: Path,
        base: SlideRecord,
        request: SlideRequest,
        partial: PartialResults,
        *,
        deadline: float | None = None,
    ) -> tuple[SlidePrediction, SlideRecord]:
        """Run the models over the slide at `path`; return what they say, and the record of a called slide.

        Raises:
            NotForUs: it is not H&E.
            InputError: it cannot be used, too little of it can be read, or `deadline` (of `time.monotonic`) passed.
        """
        prepared: PreparedSlide = self.pool.run(
            prepare_slide, path, base.slide, request, name=str(path), deadline=deadline
        )
        tiles = prepared.plan.tiles
        planned = self.pipeline.planned(len(tiles))
        with tqdm(total=planned, desc=f"  {base.slide}", unit="patch", leave=False) as bar:
            prediction = self.pipeline.predict(
                prepared, partial, pool=self.pool, deadline=deadline, progress=bar.update
            )
        share = len(prediction.unreadable) / len(tiles)
        if share > self.config.max_unreadable:
            raise InputError(
                f"{path}: {len(prediction.unreadable)} of {len(tiles)} tiles cannot be read "
                f"({share:.0%}, allowed {self.config.max_unreadable:.0%}); replace the file or raise --max-unreadable"
            )
        return prediction, self._record(prediction, base)

    def _call(
        self,
        path: Path,
        base: SlideRecord,
        request: SlideRequest,
        partial: PartialResults,
        lease: Lease,
        *,
        started: float,
    ) -> SlideRecord:
        limit = self.config.time_limit
        deadline = None if limit is None else started + 60 * limit
        prediction, record = self.predict(path, base, request, partial, deadline=deadline)
        prepared, taxonomy = prediction.prepared, self.pipeline.taxonomy
        if not lease.held():
            raise TakenOver(base.slide)
        notice = self.pipeline.notice
        write_tables(prediction, self.config.out, taxonomy=taxonomy, notice=notice)
        if self.config.hdf5:
            encoder = self.pipeline.predictor.model.image_tower.record.name
            write_hdf5(prediction, partial, self.config.out, encoder=encoder, notice=notice)
        write_slide_page(
            just_called(prediction, replace(record, seconds=time.monotonic() - started)),
            output_path(self.config.out, "page", base.slide),
            taxonomy=taxonomy,
            notice=notice,
            read=lambda some: self._read_again(prepared, some, deadline),
        )
        return record

    def _record(self, prediction: SlidePrediction, base: SlideRecord) -> SlideRecord:
        prepared, names = prediction.prepared, self.pipeline.taxonomy.class_names
        call = aggregate(prediction.fused, np.array([tile.tissue for tile in prediction.tiles]))
        remarks = [f"{len(prediction.unreadable)} tiles cannot be read"] if prediction.unreadable else []
        if prepared.plan.upsampling > 1.01:
            remarks.append(
                f"the file is {prepared.plan.upsampling:.1f} times coarser than the {prepared.plan.target_mpp:g} µm/px "
                "the models were trained on"
            )
        if prepared.doubt:
            remarks.append(f"{prepared.doubt}, and used all the same because of any_stain")
        stain = ""
        if prepared.stain is not None and self.pipeline.reference is not None:
            numbers = ", ".join(" ".join(f"{value:.3f}" for value in row) for row in prepared.stain.parameters)
            stain = f"{prepared.stain.method}: {numbers}; to {self.pipeline.reference.source}"
        return replace(
            base,
            status="ok",
            reason="; ".join(remarks),
            subtype=names[call.called],
            probabilities=dict(zip(names, map(float, call.tissue_weighted), strict=True)),
            mean_probabilities=dict(zip(names, map(float, call.mean), strict=True)),
            patches=len(prediction.tiles),
            captioned=sum(text is not None for text in prediction.texts),
            borrowed=0 if prediction.chosen is None else int(prediction.chosen.borrowed.sum()),
            choice="" if self.pipeline.choice is None else str(self.pipeline.choice),
            unreadable=len(prediction.unreadable),
            rejected=dict(Counter(reason for _, reason in prediction.left_out())),
            mpp=prepared.slide.mpp.value,
            mpp_origin=prepared.slide.mpp.origin,
            vendor=prepared.slide.vendor,
            stain=stain,
        )

    def _read_again(self, prepared: PreparedSlide, tiles: list[Tile], deadline: float | None) -> dict[Tile, np.ndarray]:
        """Pixels of some tiles for the page; those that cannot be read any more are missing."""
        found: dict[Tile, np.ndarray] = {}
        request = self.pipeline.tile_request(prepared)
        for batch in read_tiles(
            prepared.slide, tiles, request, pool=self.pool, batch_size=len(tiles) or 1, deadline=deadline
        ):
            found |= dict(zip(batch.tiles, batch.pixels, strict=True))
        return found

    def _unexpected(self, path: Path, name: str, error: Exception) -> str:
        """One line for the table; where it went wrong is kept for whoever has to mend it."""
        trace = self.config.out / "errors" / f"{name}.txt"
        write_text(trace, plain_trace(error))
        return _line(f"{path}: unexpected {type(error).__name__}: {plain_reason(error)}; see {trace}")


def is_disk_full(error: Exception) -> bool:
    """Whether `error` says so: pyarrow and h5py put the system's error into words of their own."""
    return getattr(error, "errno", None) in DISK_IS_FULL or "No space left" in str(error)


def _line(reason: object) -> str:
    return printable(" ".join(str(reason).split()))
