"""The resolution of a slide: where it comes from and what is refused."""

from pathlib import Path

import pytest
from drawn_slide import draw_glass, write_slide

from data.errors import InputError
from data.mpp import Mpp, resolve_mpp
from data.slide import open_slide

SLIDE = Path("case.svs")
STATED = {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25"}


def test_manifest_corrects_the_file_and_the_file_outranks_the_command_line() -> None:
    assert resolve_mpp(STATED, path=SLIDE, manifest=0.5, command_line=1.0) == Mpp(value=0.5, origin="manifest")
    assert resolve_mpp(STATED, path=SLIDE, command_line=1.0) == Mpp(value=0.25, origin="file")
    assert resolve_mpp({}, path=SLIDE, command_line=1.0) == Mpp(value=1.0, origin="command line")


def test_a_missing_resolution_is_refused_with_file_and_remedy() -> None:
    with pytest.raises(InputError, match=r"case\.svs.*--mpp.*manifest"):
        resolve_mpp({}, path=SLIDE)


def test_objective_power_is_not_taken_for_a_resolution() -> None:
    with pytest.raises(InputError, match=r"objective power \(20x\)"):
        resolve_mpp({"openslide.objective-power": "20"}, path=SLIDE)


@pytest.mark.parametrize("value", [0.05, 4.5, 353.0])
@pytest.mark.parametrize("origin", ["manifest", "file", "command line"])
def test_an_implausible_resolution_is_refused_with_its_value_and_origin(value: float, origin: str) -> None:
    stated = {"openslide.mpp-x": str(value), "openslide.mpp-y": str(value)} if origin == "file" else {}
    with pytest.raises(InputError, match=f"{value:g} µm/px from the {origin}"):
        resolve_mpp(
            stated,
            path=SLIDE,
            manifest=value if origin == "manifest" else None,
            command_line=value if origin == "command line" else None,
        )


@pytest.mark.parametrize("value", ["", "nan", "inf", "0", "-0.5", "twenty"])
def test_a_resolution_that_is_no_positive_number_counts_as_missing(value: str) -> None:
    with pytest.raises(InputError, match="states no resolution"):
        resolve_mpp({"openslide.mpp-x": value, "openslide.mpp-y": value}, path=SLIDE)


def test_pixels_that_are_not_square_are_refused_beyond_five_per_cent() -> None:
    with pytest.raises(InputError, match="differs across"):
        resolve_mpp({"openslide.mpp-x": "0.50", "openslide.mpp-y": "0.53"}, path=SLIDE)
    nearly = resolve_mpp({"openslide.mpp-x": "0.50", "openslide.mpp-y": "0.51"}, path=SLIDE)
    assert nearly.value == pytest.approx(0.505)


@pytest.mark.parametrize("unit", ["CENTIMETER", "INCH"])
def test_a_generic_tiff_states_its_resolution_in_either_unit(tmp_path: Path, unit: str) -> None:
    path = write_slide(tmp_path / "slide.tiff", draw_glass(), mpp=0.5, unit=unit)
    mpp = open_slide(path).mpp
    assert mpp.origin == "file"
    assert mpp.value == pytest.approx(0.5, rel=1e-4)


def test_screen_resolution_written_by_an_image_editor_is_refused(tmp_path: Path) -> None:
    path = write_slide(tmp_path / "editor.tiff", draw_glass(), mpp=25_400 / 72, unit="INCH")
    with pytest.raises(InputError, match=r"editor\.tiff: implausible resolution of 352\.778"):
        open_slide(path)
