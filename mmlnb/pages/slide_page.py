"""The page of one slide: the call, where it comes from, and the written findings."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from data.taxonomy import Taxonomy
from data.tiles import Tile
from mmlnb.findings_profile import findings_profile
from mmlnb.pages.heat_map import draw_maps
from mmlnb.pages.highlight import highlight
from mmlnb.pages.page import image_uri, write_page
from mmlnb.palette import REASON_COLOURS, class_colours, css
from mmlnb.slide_prediction import SlidePrediction
from mmlnb.slide_record import SlideRecord

FOR, AGAINST = 6, 3


@dataclass(frozen=True)
class PatchCard:
    """One patch as the page shows it."""

    picture: str
    caption: Markup | None
    probabilities: dict[str, float]
    gate: float
    x: int
    y: int


def write_slide_page(
    prediction: SlidePrediction,
    record: SlideRecord,
    path: Path,
    *,
    taxonomy: Taxonomy,
    notice: str,
    read: Callable[[list[Tile]], dict[Tile, np.ndarray]],
) -> None:
    """Write the self-contained HTML page of one called slide to `path`; `read` gives the pixels of some tiles."""
    called = taxonomy.class_names.index(record.subtype)
    supporting, opposing = telling_patches(prediction.fused[:, called], _tissue(prediction))
    pixels = read([prediction.tiles[index] for index in (*supporting, *opposing)])
    colours = {name: css(colour) for name, colour in class_colours(taxonomy).items()}
    maps = draw_maps(prediction, taxonomy)
    depth = len(Path(record.slide).parts)
    write_page(
        "slide.html.j2",
        path,
        record=record,
        notice=notice,
        taxonomy=taxonomy,
        colours=colours,
        outline=image_uri(maps.outline),
        class_map=image_uri(maps.classes),
        reason_map=image_uri(maps.reasons),
        reasons={reason: css(REASON_COLOURS[reason]) for reason in REASON_COLOURS if reason in record.rejected},
        gate_map=image_uri(maps.gates),
        tissue_mm2=prediction.prepared.tissue.area_mm2,
        profile=findings_profile(prediction.texts, taxonomy),
        supporting=[_card(prediction, index, taxonomy, pixels) for index in supporting],
        opposing=[_card(prediction, index, taxonomy, pixels) for index in opposing],
        mean_gate=float(prediction.gate.mean()),
        image_call=taxonomy.class_names[
            int(np.average(prediction.image, axis=0, weights=_tissue(prediction)).argmax())
        ],
        target_mpp=prediction.prepared.plan.target_mpp,
        tile_px=prediction.prepared.plan.tile_px,
        index=Path(*[os.pardir] * depth, "index.html").as_posix(),
    )


def telling_patches(probability: np.ndarray, tissue: np.ndarray) -> tuple[list[int], list[int]]:
    """Indices of the patches that argue most for and against a class, strongest first.

    A patch counts with its `probability` (N,) of the class times its share of `tissue` (N,); against, with the
    probability of the other classes, and only where these are the more likely.
    """
    supporting = np.argsort(-(probability * tissue), kind="stable")[:FOR]
    against = np.argsort(-((1 - probability) * tissue), kind="stable")
    opposing = [int(index) for index in against if probability[index] < 0.5][:AGAINST]
    return [int(index) for index in supporting if index not in opposing], opposing


def _tissue(prediction: SlidePrediction) -> np.ndarray:
    return np.array([tile.tissue for tile in prediction.tiles])


def _card(prediction: SlidePrediction, index: int, taxonomy: Taxonomy, pixels: dict[Tile, np.ndarray]) -> PatchCard:
    tile, text, side = prediction.tiles[index], prediction.texts[index], prediction.prepared.plan.tile_px
    # It could be read a moment ago; a grey square beside its text says that the file went away.
    picture = pixels.get(tile, np.full((side, side, 3), 200, dtype=np.uint8))
    return PatchCard(
        picture=image_uri(picture),
        caption=None if text is None else highlight(text, taxonomy),
        probabilities=dict(zip(taxonomy.class_names, map(float, prediction.fused[index]), strict=True)),
        gate=float(prediction.gate[index]),
        x=tile.x,
        y=tile.y,
    )
