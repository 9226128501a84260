"""What a slide says of its patient, in its metadata or in its label and macro image, reaches no output."""

import base64
import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import openslide
import pyarrow.parquet as pq
import pydicom
import pytest
import tifffile
from cut_slide import CMU
from infer_outputs import table
from PIL import Image

import mmlnb

sys.path.append(str(Path(__file__).resolve().parents[1] / "data"))
from drawn_dicom import write_dicom

# As in a filled-in form, none of them a word that a report may hold by itself.
PLANTED = {
    "name": "ZEBRAWSKI^QUIRINA",
    "id": "MRN-7731904-XQ",
    "accession": "ACC-55120-ZK",
    "birth": "19310229",
    "institution": "Sankt Nirgendwo Spital",
    "label": "LABELTEXT-QQ-4711",
}
FOUND = re.compile("|".join(map(re.escape, PLANTED.values())).encode())
EMBEDDED = re.compile(rb"data:image/\w+;base64,([A-Za-z0-9+/=]+)")


def write_aperio(path: Path, pixels: np.ndarray, *, mpp: str = "0.5") -> Path:
    """An Aperio slide whose description, tags, label and macro image identify the patient."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stated = f"|MPP = {mpp}|AppMag = 20|Patient = {PLANTED['name']}|PatientID = {PLANTED['id']}"
    stated += f"|Accession = {PLANTED['accession']}|Title = {PLANTED['institution']}|Born = {PLANTED['birth']}"
    height, width = pixels.shape[:2]
    tags = [(315, "s", 0, PLANTED["name"], True), (316, "s", 0, PLANTED["institution"], True)]
    tags += [(269, "s", 0, PLANTED["accession"], True), (33432, "s", 0, PLANTED["id"], True)]
    note = np.frombuffer((PLANTED["label"] + " ").encode() * 500, dtype=np.uint8)[: 48 * 60 * 3].reshape(48, 60, 3)
    common = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        size = f"Aperio Image Library v12.0.1\n{width}x{height} [0,0 {width}x{height}] (128x128)"
        file.write(pixels, tile=(128, 128), compression="deflate", description=size + stated, extratags=tags, **common)
        thumbnail = np.ascontiguousarray(pixels[::16, ::16])
        file.write(thumbnail, description="Aperio Image Library v12.0.1\nthumbnail" + stated, **common)
        for name, kind in (("label", 1), ("macro", 9)):
            file.write(
                note, subfiletype=kind, description=f"Aperio Image Library v12.0.1\n{name} 60x48{stated}", **common
            )
    return path


def write_dicom_slide(folder: Path, pixels: np.ndarray) -> Path:
    """A DICOM series whose files name the patient."""
    for file in write_dicom(folder, pixels, levels=1):
        dataset = pydicom.dcmread(file)
        dataset.PatientName, dataset.PatientID = PLANTED["name"], PLANTED["id"]
        dataset.AccessionNumber, dataset.PatientBirthDate = PLANTED["accession"], PLANTED["birth"]
        dataset.InstitutionName, dataset.ContainerIdentifier = PLANTED["institution"], PLANTED["label"]
        dataset.save_as(file, enforce_file_format=True)
    return folder


@pytest.fixture(scope="module")
def pixels(real_data: Path) -> np.ndarray:
    """Real tissue, RGB uint8 (768, 768, 3)."""
    with openslide.OpenSlide(real_data / "slides" / CMU) as slide:
        return np.asarray(slide.read_region((1000, 1500), 0, (768, 768)).convert("RGB"))


def contents(path: Path) -> Iterator[bytes]:
    """Everything that a file holds, whatever it is packed in."""
    raw = path.read_bytes()
    yield path.name.encode()
    yield raw
    if path.suffix == ".parquet":
        found = pq.read_table(path)
        yield repr(found.schema.metadata).encode()
        yield "\n".join(map(str, found.to_pylist())).encode()
    if path.suffix == ".h5":
        parts: list[str] = []
        with h5py.File(path) as file:
            file.visititems(lambda name, item: parts.append(f"{name} {dict(item.attrs)}"))
            yield "\n".join([*parts, str(dict(file.attrs))]).encode()
    pictures = [base64.b64decode(found) for found in EMBEDDED.findall(raw)]
    pictures += [raw] if path.suffix in (".png", ".jpg") else []
    for picture in pictures:
        yield picture
        with Image.open(io.BytesIO(picture)) as image:
            yield repr(image.info).encode() + repr(dict(image.getexif())).encode()
            yield image.convert("RGB").tobytes()


def leaks(folder: Path) -> dict[str, set[bytes]]:
    """File to what of the planted texts it holds."""
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {path.name: {hit for part in contents(path) for hit in FOUND.findall(part)} for path in files}
    return {name: hits for name, hits in found.items() if hits}


def test_what_is_planted_can_be_found_in_the_slides(pixels: np.ndarray, tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "a.svs", pixels)
    write_dicom_slide(tmp_path / "dicom", pixels)
    assert {hit.decode() for hit in leaks(tmp_path)["a.svs"]} == set(PLANTED.values())
    assert {hit.decode() for hit in leaks(tmp_path)["level0.dcm"]} == set(PLANTED.values())
    with openslide.OpenSlide(path) as slide:
        assert PLANTED["name"] in slide.properties["aperio.Patient"]
        label = slide.associated_images["label"].convert("RGB")
        assert {"label", "macro"} <= set(slide.associated_images)
    assert FOUND.search(label.tobytes())
    # Also where it is packed: in a picture of a page, and in a table.
    buffer = io.BytesIO()
    label.save(buffer, "PNG")
    page = f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
    (tmp_path / "page.html").write_text(page)
    assert "page.html" in leaks(tmp_path)


def test_no_output_holds_what_identifies_the_patient(
    run: Callable[..., int], demo_run: Path, pixels: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    slides, out = tmp_path / "slides", tmp_path / "run" / "infer"
    write_aperio(slides / "a.svs", pixels)
    write_dicom_slide(slides / "dicom", pixels)
    whole = write_aperio(slides / "cut.svs", pixels).read_bytes()
    (slides / "cut.svs").write_bytes(whole[: len(whole) // 2])
    write_aperio(slides / "odd.svs", pixels, mpp=PLANTED["name"])
    run(slides, out, hdf5=True)
    rows = table(out)
    assert (rows["a.svs"]["status"], rows["odd.svs"]["status"]) == ("ok", "failed")
    assert [row["status"] for name, row in rows.items() if name.startswith("dicom")] == ["ok"]
    (tmp_path / "run" / "bundle").symlink_to(demo_run / "bundle")
    mmlnb.report(tmp_path / "run", slide_pages=True)
    assert leaks(tmp_path / "run") == {}
    said = capfd.readouterr()
    assert not FOUND.search((said.out + said.err).encode())


@pytest.mark.parametrize("mpp", ["0.5", PLANTED["name"]])
def test_the_second_reader_tells_nothing_either(
    run: Callable[..., int], pixels: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str], mpp: str
) -> None:
    pytest.importorskip("tiffslide", reason="needs tiffslide")
    slides, out = tmp_path / "slides", tmp_path / "out"
    whole = write_aperio(slides / "a.svs", pixels, mpp=mpp).read_bytes()
    (slides / "cut.svs").write_bytes(whole[: len(whole) // 2])
    run(slides, out, reader="tiffslide")
    assert len(table(out)) == 2
    assert leaks(out) == {}
    said = capfd.readouterr()
    assert not FOUND.search((said.out + said.err).encode())


def test_an_error_that_quotes_the_slide_is_told_without_what_it_quotes(
    run: Callable[..., int],
    pixels: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from mmlnb.slide_call import SlideCaller

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"bad property 'aperio.Patient' = '{PLANTED['name']}'")

    write_aperio(tmp_path / "slides" / "a.svs", pixels)
    monkeypatch.setattr(SlideCaller, "_call", fail)
    run(tmp_path / "slides", tmp_path / "out")
    assert "unexpected RuntimeError" in table(tmp_path / "out")["a.svs"]["reason"]
    trace = (tmp_path / "out" / "errors" / "a.svs.txt").read_text()
    assert "RuntimeError: bad property" in trace and "in fail" in trace
    assert leaks(tmp_path / "out") == {}
    said = capfd.readouterr()
    assert not FOUND.search((said.out + said.err).encode())
