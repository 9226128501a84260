"""Damaged slides: each ends in a result whose counts add up, or in one line that names the file."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from damaged import KINDS, write_damaged

from data.errors import InputError
from data.prepared_slide import PreparedSlide, SlideRequest, prepare_slide
from data.read_tiles import PART, TileRequest, read_tiles
from data.reader_pool import ReaderPool, ReaderStopped, TimeLimitPassed
from data.slide import open_slide
from data.tiles import TilePlan

TILE_PX = 112
SECONDS = 20.0
# Resolutions that leave few tiles, so that a file takes a fraction of a second; the weights favour small files.
SLIDES = {
    "CMU-1-Small-Region.svs": (0.5, 4),
    "negative/corrupt-tiles.svs": (0.5, 3),
    "C3L-00601-26.tiff": (0.25, 3),
    "TCGA-CR-7395-01A-01-TS1.svs": (0.25, 1),
    "negative/fluorescence-DAPI.ndpi": (0.5, 2),
    "negative/not-tissue.dcm": (0.5, 2),
}


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    with ReaderPool(workers=2, slot_bytes=PART * TILE_PX**2 * 3) as pool:
        yield pool


def read_through(path: Path, pool: ReaderPool, *, mpp: float) -> tuple[TilePlan, int, int]:
    """Prepare and read a slide as a run does; return its plan and how many tiles could and could not be read."""
    deadline = time.monotonic() + SECONDS
    # A manifest's resolution, or a damaged one would be refused before anything is read.
    request = SlideRequest(target_mpp=2.0, tile_px=TILE_PX, any_stain=True, manifest_mpp=mpp)
    prepared: PreparedSlide = pool.run(prepare_slide, path, path.name, request, name=str(path), deadline=deadline)
    plan = prepared.plan
    place = {tile: number for number, tile in enumerate(plan.tiles)}
    met: list[int] = []
    read = unreadable = 0
    for batch in read_tiles(
        prepared.slide,
        plan.tiles,
        TileRequest(tile_px=TILE_PX, score_focus=True),
        pool=pool,
        batch_size=16,
        deadline=deadline,
    ):
        assert batch.pixels.shape == (len(batch.tiles), TILE_PX, TILE_PX, 3)
        assert batch.sharpness.shape == (len(batch.tiles),)
        assert np.isfinite(batch.sharpness).all()
        assert all(str(path) in reason and "\n" not in reason for _, reason in batch.unreadable)
        met += sorted(place[tile] for tile in [*batch.tiles, *(tile for tile, _ in batch.unreadable)])
        read += len(batch.tiles)
        unreadable += len(batch.unreadable)
    assert met == list(range(len(plan.tiles)))
    assert read + unreadable == len(plan.tiles)
    return plan, read, unreadable


def outcome_of(path: Path, pool: ReaderPool, *, mpp: float) -> str:
    """Read a damaged slide and say how it ended; anything but a result or an InputError fails the test."""
    started = time.monotonic()
    try:
        plan, read, unreadable = read_through(path, pool, mpp=mpp)
    except TimeLimitPassed as error:
        reason = str(error)
        outcome = "late"
    except ReaderStopped as error:
        reason = str(error)
        outcome = "died"
    except InputError as error:
        reason = str(error)
        outcome = "refused"
    else:
        assert plan.columns * plan.rows == len(plan.tiles) + len(plan.rejected)
        return "in part" if unreadable and read else "no tile" if unreadable else "whole"
    assert str(path) in reason
    assert "\n" not in reason
    # Waiting for the other processes, and starting new ones, comes on top.
    assert time.monotonic() - started < SECONDS + 10
    return outcome


def damage_and_read(
    real_data: Path, folder: Path, pool: ReaderPool, *, kinds: Sequence[str], count: int, seed: int
) -> Counter[str]:
    """Count the outcomes of `count` damaged slides, with the kinds of damage in turn."""
    names = [name for name, (_, weight) in SLIDES.items() for _ in range(weight)]
    outcomes: Counter[str] = Counter()
    for number in range(count):
        # Names and kinds share factors: the shift lets every pair occur.
        name = names[(7 * number + number // 30) % len(names)]
        kind = kinds[number % len(kinds)]
        source = real_data / "slides" / name
        path = folder / f"{number}-{kind.replace(' ', '-')}-{source.name}"
        write_damaged(source, path, kind=kind, seed=1000 * seed + number)
        started = time.monotonic()
        outcome = outcome_of(path, pool, mpp=SLIDES[name][0])
        outcomes[outcome] += 1
        print(f"{outcome:8} {time.monotonic() - started:5.1f} s {path.name}")
        # A process may still have it open, and Windows does not let go of a file before that ends.
        path.write_bytes(b"")
    print(dict(outcomes))
    return outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_slides_end_in_a_result_or_a_reason(
    real_data: Path, tmp_path: Path, pool: ReaderPool, kind: str
) -> None:
    outcomes = damage_and_read(real_data, tmp_path, pool, kinds=[kind], count=4, seed=1)
    assert outcomes["late"] == outcomes["died"] == 0


@pytest.mark.slow
def test_hundreds_of_damaged_slides_end_in_a_result_or_a_reason(
    real_data: Path, tmp_path: Path, pool: ReaderPool
) -> None:
    count = 204
    outcomes = damage_and_read(real_data, tmp_path, pool, kinds=list(KINDS), count=count, seed=2)
    assert outcomes.total() == count
    assert outcomes["late"] == 0
    assert outcomes["died"] <= count // 20
    # Damage that changes nothing, or leaves nothing to read, would test nothing.
    assert outcomes["whole"] + outcomes["in part"] > count // 10
    assert outcomes["refused"] + outcomes["no tile"] > count // 10
    assert outcomes["in part"] > count // 20


def test_a_damaged_level_that_claims_billions_of_rows_is_refused_at_once(real_data: Path, tmp_path: Path) -> None:
    """OpenSlide would read it at another scale, and takes seconds to open it again after every tile that fails."""
    source = real_data / "slides" / "negative" / "fluorescence-DAPI.ndpi"
    path = write_damaged(source, tmp_path / "damaged.ndpi", kind="directory", seed=1011)
    with pytest.raises(InputError, match=r"damaged\.ndpi: a level of 992 x 2147483647 px"):
        open_slide(path, manifest_mpp=0.5)
