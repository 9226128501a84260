"""Patch images at the input size of a tower, held in memory where they fit."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize
from tqdm import tqdm

from data.atomic import digest
from data.image import read_image
from fusion.record import Framing


def frame_patch(image: np.ndarray, *, framing: Framing) -> Tensor:
    """RGB uint8 (H, W, 3) as a uint8 tensor (3, S, S), antialiased; the same in training and prediction."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    side = [framing.resize, framing.resize]
    if list(pixels.shape[1:]) != side:
        pixels = resize(pixels, side, interpolation=InterpolationMode(framing.interpolation), antialias=True)
    return pixels if framing.resize == framing.size else center_crop(pixels, [framing.size, framing.size])


class PatchImages(Dataset[Tensor]):
    """Row to image (3, S, S) uint8."""

    def __init__(
        self, paths: Sequence[Path], *, framing: Framing, memory_gb: float, workers: int, progress: bool
    ) -> None:
        """Read all images now when they take less than `memory_gb`, else each time one is asked for."""
        self.paths = list(paths)
        self.framing = framing
        self.workers = workers
        size = framing.size
        self.memory: Tensor | None = None
        if len(self.paths) * 3 * size**2 <= memory_gb * 2**30:
            self.memory = torch.empty(len(self.paths), 3, size, size, dtype=torch.uint8)
            with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
                read = tqdm(
                    pool.map(self._read, range(len(self.paths))),
                    total=len(self.paths),
                    desc="reading patches",
                    unit="patch",
                    disable=not progress,
                )
                for row, image in enumerate(read):
                    self.memory[row] = image

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        return self._read(row) if self.memory is None else self.memory[row]

    def batches(self, rows: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """The images of each batch of `rows`, (N, 3, S, S) uint8, in order."""
        if self.memory is not None:
            for batch in rows:
                yield self.memory[torch.from_numpy(batch)]
            return
        yield from DataLoader(
            self,
            batch_sampler=[batch.tolist() for batch in rows],
            collate_fn=torch.stack,
            num_workers=self.workers,
            # A generator of its own: the loader would draw a number that dropout then lacks.
            generator=torch.Generator(),
        )

    @cached_property
    def content(self) -> str:
        """Hash of all image files, and of how they are brought to the input of the tower."""
        with ThreadPoolExecutor(max_workers=max(1, self.workers)) as pool:
            return digest(str(self.framing), *pool.map(lambda path: digest(path.read_bytes()), self.paths))

    def _read(self, row: int) -> Tensor:
        return frame_patch(read_image(self.paths[row]), framing=self.framing)
