"""A small tiled whole-slide DICOM series written for the tests: one file per level, and a label."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

TILE = 256


def write_dicom(
    folder: Path,
    pixels: np.ndarray,
    *,
    mpp: float = 0.5,
    levels: int = 2,
    associated: Sequence[str] = ("LABEL",),
) -> list[Path]:
    """Write RGB uint8 (H, W, 3) as one series and return its files.

    First come the `associated` images, whose names sort before those of the levels, then the levels, finest first;
    each level halves the one before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    files = []
    for number, flavour in enumerate(associated):
        note = np.full((64, 96, 3), 255, dtype=np.uint8)
        instance = _instance(note, image_type=["ORIGINAL", "PRIMARY", flavour, "NONE"], series=series, mpp=20.0)
        files.append(_save(instance, folder / f"a{number}-{flavour.lower()}.dcm"))
    for level in range(levels):
        step = 2**level
        height, width = (side // step * step for side in pixels.shape[:2])
        blocks = pixels[:height, :width].reshape(height // step, step, width // step, step, 3)
        image_type = (
            ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"] if level else ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        )
        reduced = blocks.mean(axis=(1, 3)).round().astype(np.uint8)
        instance = _instance(reduced, image_type=image_type, series=series, mpp=mpp * step)
        files.append(_save(instance, folder / f"level{level}.dcm"))
    return files


def _instance(pixels: np.ndarray, *, image_type: list[str], series: UID, mpp: float) -> Dataset:
    """Return what OpenSlide needs of a VL Whole Slide Microscopy Image (DICOM PS3.3 A.32.8), tiles left to right."""
    height, width = pixels.shape[:2]
    rows, columns = (TILE, TILE) if "VOLUME" in image_type else (height, width)
    frames = _frames(pixels, rows=rows, columns=columns)
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = image_type
    dataset.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.Modality = "SM"
    dataset.SeriesInstanceUID = series
    dataset.DimensionOrganizationType = "TILED_FULL"
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PlanarConfiguration = 0
    dataset.NumberOfFrames = len(frames)
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = height, width
    dataset.TotalPixelMatrixFocalPlanes = 1
    measures = Dataset()
    measures.PixelSpacing = [mpp / 1000, mpp / 1000]
    groups = Dataset()
    groups.PixelMeasuresSequence = DicomSequence([measures])
    dataset.SharedFunctionalGroupsSequence = DicomSequence([groups])
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    return dataset


def _frames(pixels: np.ndarray, *, rows: int, columns: int) -> list[bytes]:
    """Cut `pixels` into JPEG tiles, row by row; the last ones repeat the edge, as scanners pad them."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % rows), (0, -width % columns), (0, 0)), mode="edge")
    frames = []
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            buffer = BytesIO()
            tile = Image.fromarray(padded[top : top + rows, left : left + columns])
            tile.save(buffer, "JPEG", quality=95, subsampling="4:2:2")
            frames.append(buffer.getvalue())
    return frames


def _save(dataset: Dataset, path: Path) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path
