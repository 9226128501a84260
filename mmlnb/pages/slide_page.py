"""The page of one slide: the call, where it comes from, and the written findings, counted and traceable."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from data.taxonomy import Taxonomy
from data.tiles import Tile
from fusion.intervals import Interval
from mmlnb.call_uncertainty import BLOCK
from mmlnb.called_slide import CalledSlide
from mmlnb.findings_profile import findings_profile, read_stated
from mmlnb.pages.beside import write_beside
from mmlnb.pages.caption_curve import caption_curve_figure
from mmlnb.pages.heat_map import draw_maps
from mmlnb.pages.highlight import highlight
from mmlnb.pages.page import image_uri, write_page
from mmlnb.palette import REASON_COLOURS, class_colours, css
from mmlnb.slide_summary import Count, Counts, count_slide, summary, text_of

FOR, AGAINST = 6, 3
# Patches on the page with their captions, half a kilobyte each; the table beside it holds all.
MOST_LISTED = 1000


@dataclass(frozen=True)
class PatchEntry:
    """One patch as the page shows it."""

    number: int
    """From 1, the row of the table beside the page."""
    caption: Markup | None
    probabilities: dict[str, float]
    call: str
    gate: float
    x: int
    y: int
    picture: str | None = None
    borrowed_from: int | None = None
    """Number of the patch whose caption was fused with this one, where it has none of its own."""


@dataclass(frozen=True)
class ClassEntry:
    """One class as the page shows it; all but the patches are probabilities."""

    name: str
    title: str
    probability: float
    interval: Interval
    mean: float
    image: float
    patches: Count | None


def write_slide_page(
    slide: CalledSlide,
    path: Path,
    *,
    taxonomy: Taxonomy,
    notice: str,
    read: Callable[[list[Tile]], dict[Tile, np.ndarray]],
) -> None:
    """Write the self-contained HTML page of one called slide to `path`, with JSON and CSV (a row per patch) beside it.

    `read` gives the pixels of some tiles; those that cannot be read any more are missing.
    """
    record = slide.record
    stated = read_stated(slide.texts, taxonomy)
    weights = None if slide.chosen is None else slide.chosen.weights
    profile = findings_profile(stated, taxonomy, weights=weights)
    counts = count_slide(slide.called_patches(taxonomy), stated, profile, taxonomy, weights=weights)
    steps, curve = _caption_curve(slide)
    called = taxonomy.class_names.index(record.subtype)
    supporting, opposing = telling_patches(slide.fused[:, called], slide.tissue)
    telling = [*supporting, *opposing]
    listed = list_patches(len(slide.tiles), telling)
    classes = _classes(slide, taxonomy, counts)
    paragraph = summary(counts)
    image_call = taxonomy.class_names[slide.image_call.called]
    shown = {
        "record": asdict(record),
        "classes": [_class_values(one) for one in classes],
        "interval_blocks": int(slide.blocks.max()) + 1,
        "image_call": image_call,
        "mean_gate": float(slide.gate.mean()),
        "tissue_mm2": slide.tissue_mm2,
        "target_mpp": slide.target_mpp,
        "tile_px": slide.tile_px,
    }
    pixels = read([slide.tiles[index] for index in telling])
    entries = {index: _entry(slide, index, taxonomy) for index in listed}
    maps = draw_maps(slide, taxonomy)
    write_page(
        "slide.html.j2",
        path,
        **shown | {"record": record, "classes": classes},
        notice=notice,
        taxonomy=taxonomy,
        colours={name: css(colour) for name, colour in class_colours(taxonomy).items()},
        outline=image_uri(maps.outline),
        class_map=image_uri(maps.classes),
        reason_map=image_uri(maps.reasons),
        reasons={reason: css(REASON_COLOURS[reason]) for reason in REASON_COLOURS if reason in record.rejected},
        gate_map=image_uri(maps.gates),
        block=BLOCK,
        counts=counts,
        summary=paragraph,
        remark=slide.remark,
        caption_curve=caption_curve_figure(steps, curve, taxonomy, patches=len(slide.tiles))
        if len(steps) > 1
        else None,
        entries=list(entries.values()),
        listed=set(listed),
        supporting=[_card(entries[index], slide, index, pixels) for index in supporting],
        opposing=[_card(entries[index], slide, index, pixels) for index in opposing],
        index=Path(*[os.pardir] * len(Path(record.slide).parts), "index.html").as_posix(),
        files=path.stem,
    )
    write_beside(
        path,
        shown
        | {
            "notice": notice,
            "summary": text_of(paragraph),
            "counts": [
                {"subject": count.subject, "value": count.value, "patches": len(count.patches), "of": count.of}
                | ({} if count.weight is None else {"share_of_slide": count.weight})
                for count in counts.all()
            ],
            **_curve_values(steps, curve, taxonomy),
            "patches_for": [index + 1 for index in supporting],
            "patches_against": [index + 1 for index in opposing],
        },
        {"": _patch_table(slide, stated, taxonomy).assign(notice=notice or None)},
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


def list_patches(count: int, telling: Sequence[int]) -> list[int]:
    """Indices of the patches that the page lists: all of `count`, or `telling` and others evenly over the slide."""
    evenly = np.linspace(0, count - 1, min(count, MOST_LISTED)).round().astype(int)
    return sorted({*map(int, evenly), *telling})


def _caption_curve(slide: CalledSlide) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of captions and the slide's probabilities with as many; empty where no choice was made."""
    if slide.chosen is None:
        return np.zeros(0, dtype=int), np.zeros((0, slide.fused.shape[1]))
    return slide.chosen.curve(fused=slide.fused, image=slide.image, tissue=slide.tissue)


def _curve_values(steps: np.ndarray, curve: np.ndarray, taxonomy: Taxonomy) -> dict[str, Any]:
    if not len(steps):
        return {}
    return {
        "captions": [
            {"described": int(step), **dict(zip(taxonomy.class_names, map(float, call), strict=True))}
            for step, call in zip(steps, curve, strict=True)
        ]
    }


def _classes(slide: CalledSlide, taxonomy: Taxonomy, counts: Counts) -> list[ClassEntry]:
    calls = {count.value: count for count in counts.calls}
    return [
        ClassEntry(
            name=name,
            title=subtype.title,
            probability=float(slide.call.tissue_weighted[index]),
            interval=slide.intervals[index],
            mean=float(slide.call.mean[index]),
            image=float(slide.image_call.tissue_weighted[index]),
            patches=calls.get(name),
        )
        for index, (name, subtype) in enumerate(taxonomy.classes.items())
    ]


def _class_values(one: ClassEntry) -> dict[str, Any]:
    return {
        "class": one.name,
        "title": one.title,
        "probability": one.probability,
        "interval": one.interval,
        "mean": one.mean,
        "image": one.image,
        "patches": len(one.patches.patches) if one.patches else 0,
    }


def _entry(slide: CalledSlide, index: int, taxonomy: Taxonomy) -> PatchEntry:
    tile, text, chosen = slide.tiles[index], slide.texts[index], slide.chosen
    return PatchEntry(
        number=index + 1,
        caption=None if text is None else highlight(text, taxonomy),
        probabilities=dict(zip(taxonomy.class_names, map(float, slide.fused[index]), strict=True)),
        call=taxonomy.class_names[int(slide.fused[index].argmax())],
        gate=float(slide.gate[index]),
        x=tile.x,
        y=tile.y,
        borrowed_from=int(chosen.source[index]) + 1 if chosen is not None and chosen.borrowed[index] else None,
    )


def _card(entry: PatchEntry, slide: CalledSlide, index: int, pixels: dict[Tile, np.ndarray]) -> PatchEntry:
    picture = pixels.get(slide.tiles[index])
    return entry if picture is None else PatchEntry(**vars(entry) | {"picture": image_uri(picture)})


def _patch_table(slide: CalledSlide, stated: Sequence[dict[str, str] | None], taxonomy: Taxonomy) -> pd.DataFrame:
    """One row per patch: where it is, what is called there, and what its caption states."""
    names = np.array(taxonomy.class_names)
    columns: dict[str, Any] = {
        "patch": np.arange(1, len(slide.tiles) + 1),
        "x": [tile.x for tile in slide.tiles],
        "y": [tile.y for tile in slide.tiles],
        "tissue": slide.tissue.round(4),
        "call": names[slide.fused.argmax(axis=1)],
        "by_rule": [None if found is None else taxonomy.classify(found) for found in stated],
        **{f"p_{name}": slide.fused[:, index] for index, name in enumerate(names)},
        **{f"image_p_{name}": slide.image[:, index] for index, name in enumerate(names)},
        "gate": slide.gate,
        **{f"finding_{name}": [(found or {}).get(name) for found in stated] for name in taxonomy.findings},
        "text": slide.texts,
    }
    if slide.chosen is not None:
        columns["text_from"] = [index + 1 if index >= 0 else None for index in slide.chosen.source.tolist()]
        columns["stands_for"] = slide.chosen.weights * len(slide.tiles)
    return pd.DataFrame(columns)
