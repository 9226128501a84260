"""A bundle that stays loaded: slide after slide, or plain patches, from Python."""

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from data.command import make_config
from data.errors import InputError
from data.find_slides import find_slides, slide_id
from data.reader_pool import ReaderPool
from data.readers.registry import choose_reader
from mmlnb.bundles import EMBEDDED, Bundle, load_bundle
from mmlnb.called_slide import just_called
from mmlnb.config import InferConfig
from mmlnb.inference import find_reference, load_pipeline, start_readers
from mmlnb.partial_results import PartialResults
from mmlnb.results import PatchResults, SlideResult, patch_results, slide_result
from mmlnb.slide_call import SlideCaller
from mmlnb.slide_manifest import SlideOverride
from mmlnb.slide_prediction import SlidePipeline
from mmlnb.slide_record import printable

# Of a folder and its outputs, of which there are none here.
NOT_HERE = ("slides", "out", "bundle", "slide_manifest", "time_limit", "retry_failed", "hdf5", "checkpoint_seconds")


class Pipeline:
    """The models of a bundle, ready for slides and patches; made by `from_pretrained`.

    It calls a slide as `mmlnb infer` does, with the same code. The processes that read slides start with the first one
    and end with this process, with `close`, or at the end of a `with` block.
    """

    def __init__(self, bundle: Bundle, config: InferConfig, models: SlidePipeline) -> None:
        self.bundle = bundle
        self._config = config
        self._models = models
        self._pool: ReaderPool | None = None

    @classmethod
    def from_pretrained(cls, bundle: str | Path = EMBEDDED, **settings: Any) -> "Pipeline":
        """Check a bundle and load its models; nothing is downloaded.

        Args:
            bundle: a folder, `hf:OWNER/NAME` as `mmlnb bundle pull` fetched it, or nothing for the one in the package,
                which was trained on synthetic tissue.
            **settings: those of `mmlnb infer` that concern a slide: caption, device, batch_size, workers, mpp,
                any_stain, min_tissue, max_unreadable, reader, normalise, stain_reference, coordinates.

        Raises:
            InputError: no sound bundle, a setting that is unknown or out of range, or a base model or device that is
                not here.
        """
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        if odd := sorted(set(settings) & set(NOT_HERE)):
            raise InputError(f"{odd[0]}: is for a whole folder; use mmlnb.infer, or leave it out")
        config = make_config(InferConfig, name="infer", slides=".", out=".", bundle=str(bundle), **settings)
        found = load_bundle(config.bundle)
        reference = find_reference(found, config, slides=())
        return cls(found, config, load_pipeline(found, config, reference=reference))

    def __call__(self, slide: str | Path, *, mpp: float | None = None, any_stain: bool = False) -> SlideResult:
        """Call one slide.

        Args:
            slide: a file, or a folder that holds one slide.
            mpp: µm per level-0 pixel; it wins over the file.
            any_stain: use it though it does not look like H&E.

        Raises:
            data.prepared_slide.NotForUs: the slide is not H&E.
            InputError: it cannot be used; the message names it and says why.
        """
        given = Path(slide)
        choose_reader(given, self._config.reader)
        path, *others = find_slides(given, reader=self._config.reader)
        if others:
            raise InputError(f"{given}: holds {1 + len(others)} slides; give one, or the folder to mmlnb.infer")
        config = replace(self._config, slides=given)
        find_reference(self.bundle, config, slides=[path])
        caller = SlideCaller(config=config, bundle=self.bundle, pipeline=self._models, pool=self._readers())
        override = SlideOverride(mpp=mpp, any_stain=any_stain)
        base = caller.base(path, printable(slide_id(path, given)), override)
        with tempfile.TemporaryDirectory(prefix="mmlnb-") as folder:
            partial = PartialResults(Path(folder) / "rows", key="rows", seconds=math.inf, held=lambda: True)
            prediction, record = caller.predict(path, base, caller.request(override), partial)
        return slide_result(
            just_called(prediction, record),
            prediction,
            taxonomy=self.bundle.taxonomy,
            notice=self.bundle.index.notice,
            bundle=self.bundle.key,
        )

    def patches(self, images: Sequence[np.ndarray]) -> PatchResults:
        """Describe and classify plain patches.

        Args:
            images: N square RGB uint8 arrays (side, side, 3), of any side, that show as much tissue as the patches of
                the training did: `bundle.index.tile_px` × `bundle.index.target_mpp` µm.

        Raises:
            InputError: an array that is none of these; its number is named.
        """
        for number, image in enumerate(images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape[0] != image.shape[1]:
                raise InputError(
                    f"images[{number}]: {image.dtype} of shape {image.shape}; give square RGB uint8 (side, side, 3)"
                )
        texts, _, found = self._models.classify(list(images))
        return patch_results(
            texts,
            found,
            taxonomy=self.bundle.taxonomy,
            notice=self.bundle.index.notice,
            bundle=self.bundle.key,
        )

    def close(self) -> None:
        """End the processes that read slides; the next slide starts others."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _readers(self) -> ReaderPool:
        if self._pool is None:
            self._pool = start_readers(self.bundle, self._config)
        return self._pool
