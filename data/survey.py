"""First look at a slide: overview, stain check, tissue and tile plan in one call."""

from dataclasses import dataclass

from data.slide import Overview, Slide
from data.tiles import TilePlan, plan_tiles
from data.tissue import TissueMask, check_stain, find_tissue


@dataclass(frozen=True, eq=False)
class Survey:
    """What is known of a slide before its tiles are read."""

    overview: Overview
    tissue: TissueMask
    plan: TilePlan


def survey_slide(
    slide: Slide, *, target_mpp: float, tile_px: int, min_tissue: float = 0.5, any_stain: bool = False
) -> Survey:
    """Look at `slide` at low power and plan its tiles of `tile_px` at `target_mpp` µm/px.

    Raises InputError, naming the file, where the slide is smaller than a tile or is not H&E with tissue on it;
    `any_stain` skips the latter check.
    """
    slide.check_size(target_mpp=target_mpp, tile_px=tile_px)
    overview = slide.overview()
    tissue = find_tissue(overview)
    if not any_stain:
        check_stain(overview, tissue, name=str(slide.path))
    plan = plan_tiles(slide, tissue, target_mpp=target_mpp, tile_px=tile_px, min_tissue=min_tissue)
    return Survey(overview=overview, tissue=tissue, plan=plan)
