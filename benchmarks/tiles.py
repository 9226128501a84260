"""How fast tiles become tensors, beside a bare OpenSlide loop over the same tiles; one JSON line last."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import openslide
import torch
from large_slide import write_large_slide

from data.read_tiles import PART, TileRequest, read_tiles
from data.reader_pool import ReaderPool
from data.slide import Slide, open_slide
from data.tiles import Tile, plan_tiles
from data.tissue import find_tissue
from mmlnb.memory import PeakMemory

REAL_SLIDE = Path(__file__).parents[2] / "shared/data/slides/CMU-1-Small-Region.svs"
TILE_PX = 224
BATCH = 64
FEWEST = 500
SIZES = (15_360, 30_720)


def main() -> None:
    """Measure, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench"), help="where the synthetic slides are kept")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; medians are reported")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        read_whole(arguments.read)
        return
    large = [write_large_slide(arguments.folder / f"{size}.tiff", size_px=size) for size in SIZES]
    measured = {}
    for path in (REAL_SLIDE, large[-1]):
        if not path.is_file():
            print(f"{path}: absent, so it is not measured")
            continue
        measured[path.name] = measure(path, rounds=arguments.rounds)
        print(path.name, measured[path.name])
    peak = {path.name: peak_memory(path) for path in large}
    largest = measured[large[-1].name]
    result = {
        "name": "tiles",
        "single_vs_openslide": min(found["single_vs_openslide"] for found in measured.values()),
        "two_workers_speedup": min(found["two_workers_speedup"] for found in measured.values()),
        "peak_rss_gb": max(peak.values()),
        "tiles_per_second": largest["tiles_per_second"],
        "first_tile_s": largest["first_tile_s"],
        "plan_s": largest["plan_s"],
        "time_over_model": largest["time_over_model"],
        "peak_rss_gb_by_slide": peak,
        "by_slide": measured,
    }
    print(json.dumps(result))


def measure(path: Path, *, rounds: int) -> dict[str, float]:
    """Times of one slide: the bare loop, and the whole path with one and with two processes, in turn."""
    started = time.perf_counter()
    tiles = planned(open_slide(path))
    plan_s = time.perf_counter() - started
    seconds: dict[str, list[float]] = {"bare": [], "one": [], "two": [], "first": []}
    with pool_of(1) as one, pool_of(2) as two:
        for pool in (one, two):
            # Starting the processes is a matter of the run, not of the slide.
            read(path, tiles[:256], pool)
        for _ in range(rounds):
            seconds["bare"].append(bare(path, tiles))
            with fresh(path) as name:
                seconds["one"].append(read(name, tiles, one))
            with fresh(path) as name:
                seconds["two"].append(read(name, tiles, two))
            with fresh(path) as name:
                seconds["first"].append(first(name, tiles, two))
        with fresh(path) as name:
            over_model = with_model(name, tiles, two, seconds=statistics.median(seconds["two"]))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "tiles": len(tiles),
        "single_vs_openslide": round(median["bare"] / median["one"], 3),
        "two_workers_speedup": round(median["one"] / median["two"], 3),
        "tiles_per_second": round(len(tiles) / median["two"], 1),
        "openslide_tiles_per_second": round(len(tiles) / median["bare"], 1),
        "first_tile_s": round(median["first"], 3),
        "time_over_model": round(over_model, 3),
        "plan_s": round(plan_s, 3),
    }


def planned(slide: Slide) -> tuple[Tile, ...]:
    """The tissue tiles of a slide at its own resolution; the glass too where they are few."""
    masks = find_tissue(slide.overview())
    plan = plan_tiles(slide, masks, target_mpp=slide.mpp.value, tile_px=TILE_PX)
    inside = [tile for tile, _ in plan.rejected if tile.x + TILE_PX <= slide.header.width]
    inside = [tile for tile in inside if tile.y + TILE_PX <= slide.header.height]
    # A small slide has too few tiles of tissue to time.
    return plan.tiles if len(plan.tiles) >= FEWEST else (*plan.tiles, *inside)


def pool_of(workers: int) -> ReaderPool:
    """Processes with buffers as slide inference has them."""
    return ReaderPool(workers=workers, slot_bytes=PART * TILE_PX**2 * 3)


@contextmanager
def fresh(path: Path) -> Iterator[Path]:
    """Another name of the file, so that a process that has it open opens it again, with nothing decoded yet."""
    with tempfile.TemporaryDirectory() as folder:
        name = Path(folder) / path.name
        name.symlink_to(path.resolve())
        yield name


def bare(path: Path, tiles: Sequence[Tile]) -> float:
    """Seconds of opening, reading and closing with nothing but OpenSlide."""
    started = time.perf_counter()
    with openslide.OpenSlide(path) as handle:
        for tile in tiles:
            handle.read_region((tile.x, tile.y), 0, (TILE_PX, TILE_PX))
    return time.perf_counter() - started


def read(path: Path, tiles: Sequence[Tile], pool: ReaderPool) -> float:
    """Seconds of reading, resampling and handing over tensors (N, 3, H, W).

    The process opens the file, and closes the one before it, as it does between the slides of a folder.
    """
    slide = open_slide(path)
    started = time.perf_counter()
    count = sum(len(batch) for batch in tensors(slide, tiles, pool))
    seconds = time.perf_counter() - started
    if count != len(tiles):
        raise SystemExit(f"{path}: {count} of {len(tiles)} tiles were read")
    return seconds


def first(path: Path, tiles: Sequence[Tile], pool: ReaderPool) -> float:
    """Seconds from opening to the first batch."""
    started = time.perf_counter()
    batches = tensors(open_slide(path), tiles, pool)
    next(batches)
    seconds = time.perf_counter() - started
    batches.close()
    return seconds


def with_model(path: Path, tiles: Sequence[Tile], pool: ReaderPool, *, seconds: float) -> float:
    """Time with a model that takes as long as reading, `seconds`, over that of the model alone: 1 if reading hides."""
    started = time.perf_counter()
    for batch in tensors(open_slide(path), tiles, pool):
        # A model on a GPU leaves the processor to the readers, as sleeping does.
        time.sleep(seconds * len(batch) / len(tiles))
    return (time.perf_counter() - started) / seconds


def tensors(slide: Slide, tiles: Sequence[Tile], pool: ReaderPool) -> Generator[torch.Tensor, None, None]:
    """Batches as the towers take them, (N, 3, H, W) uint8."""
    batches = read_tiles(slide, tiles, TileRequest(tile_px=TILE_PX), pool=pool, batch_size=BATCH)
    try:
        for batch in batches:
            yield torch.from_numpy(batch.pixels).permute(0, 3, 1, 2)
    finally:
        batches.close()


def peak_memory(path: Path) -> float:
    """Peak resident memory in GB of a process of its own, with its readers, that plans and reads the whole slide."""
    command = [sys.executable, __file__, "--read", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def read_whole(path: Path) -> None:
    """Plan and read all of a slide with two processes, and print the peak memory in GB."""
    with PeakMemory() as memory, pool_of(2) as pool:
        slide = open_slide(path)
        for _ in tensors(slide, planned(slide), pool):
            pass
    print(f"{memory.gigabytes:.3f}")


if __name__ == "__main__":
    main()
