"""Tiles at positions that another tool has chosen, at our exact resolution."""

from pathlib import Path

from data.errors import InputError
from data.patch_hdf5 import find_patch_file, read_patches
from data.slide import Slide
from data.tiles import Tile, TilePlan


def plan_given_tiles(slide: Slide, folder: Path, *, target_mpp: float, tile_px: int) -> TilePlan:
    """Plan the patches that TRIDENT or CLAM wrote for the slide into `folder`.

    Models want patches of the size and resolution they were trained on, so each tile of `tile_px` at `target_mpp`
    µm/px lies on the centre of the given patch, whatever the given size. Patches that only reach onto the slide with
    their border, as tools that pad give them, are rejected as background.

    Raises InputError where there is no file for the slide, or it belongs to another one.
    """
    slide.check_size(target_mpp=target_mpp, tile_px=tile_px)
    file = find_patch_file(folder, slide.slide_id)
    if file is None:
        raise InputError(
            f"{slide.path}: no coordinates in {folder}, expected {slide.slide_id}.h5; leave the slide out or do "
            "without --coordinates"
        )
    given = read_patches(file, dimensions=slide.dimensions, with_features=False)
    size_px = slide.size_px(target_mpp=target_mpp, tile_px=tile_px)
    shift = (given.size_px - size_px) / 2
    tiles = tuple(Tile(x=round(x + shift), y=round(y + shift), size_px=size_px) for x, y in given.coords.tolist())
    width, height = slide.dimensions
    on_slide = [-size_px < tile.x < width and -size_px < tile.y < height for tile in tiles]
    return TilePlan(
        tiles=tuple(tile for tile, touches in zip(tiles, on_slide, strict=True) if touches),
        rejected=tuple((tile, "background") for tile, touches in zip(tiles, on_slide, strict=True) if not touches),
        target_mpp=target_mpp,
        tile_px=tile_px,
        columns=0,
        rows=0,
        upsampling=max(1.0, slide.mpp.value / target_mpp),
    )
