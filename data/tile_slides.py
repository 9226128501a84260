"""The tissue of a folder of slides as a manifest: where each patch lies, with no pixels copied."""

from typing import Any

import pandas as pd
from tqdm import tqdm

from data.atomic import atomic
from data.config import TileConfig
from data.errors import InputError
from data.find_slides import find_slides, slide_id
from data.manifest import COLUMNS, write_manifest
from data.prepared_slide import PreparedSlide, SlideRequest, prepare_slide
from data.reader_pool import ReaderPool

SOME_LEFT_OUT = 3


def tile(config: TileConfig) -> int:
    """Write the manifest `config.out`; return 0, or 3 where slides were left out.

    Raises:
        InputError: no slides, or none with tissue that can be used.
    """
    request = SlideRequest(
        target_mpp=config.target_mpp,
        tile_px=config.tile_px,
        min_tissue=config.min_tissue,
        reader=config.reader,
        any_stain=config.any_stain,
        command_line_mpp=config.mpp,
    )
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    paths = find_slides(config.slides, reader=config.reader)
    # In a process of its own, where a decoder that crashes costs its slide.
    with ReaderPool(workers=1, slot_bytes=1) as pool:
        for path in tqdm(paths, desc="Slides", unit="slide"):
            name = slide_id(path, config.slides)
            try:
                prepared: PreparedSlide = pool.run(prepare_slide, path, name, request, name=str(path))
            except InputError as error:
                left_out.append({"slide": name, "reason": " ".join(str(error).split())})
                continue
            found = [_row(name, one.x, one.y, config) for one in prepared.plan.tiles]
            rows += found
            if not found:
                left_out.append({"slide": name, "reason": f"{path}: has no patch with enough tissue"})
    for one in left_out:
        tqdm.write(f"left out: {one['reason']}")
    if not rows:
        raise InputError(f"{config.slides}: no slide has tissue that can be used; the reasons are above")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(pd.DataFrame(rows), config.out)
    listing = config.out.with_suffix(".left-out.csv")
    with atomic(listing) as temporary:
        pd.DataFrame(left_out, columns=["slide", "reason"]).to_csv(temporary, index=False)
    slides = len(paths) - len(left_out)
    print(f"{config.out}: patches {len(rows)}, slides {slides}, left out {len(left_out)} ({listing})")
    return SOME_LEFT_OUT if left_out else 0


def _row(name: str, x: int, y: int, config: TileConfig) -> dict[str, Any]:
    place = {"slide_id": name, "x": x, "y": y, "size_px": config.tile_px, "mpp": config.target_mpp}
    return dict.fromkeys(COLUMNS) | {"patch_id": f"{name}:{x}:{y}"} | place
