"""The reports say what the files say, wherever it is read: on the page, as JSON or as CSV."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from drawn_run import CAPTIONS, draw_metrics, draw_slide, old_metrics, read_any, write_run
from html_page import Element, read_page, table

import mmlnb
from data.atomic import write_json
from data.errors import InputError
from data.taxonomy import load_taxonomy
from mmlnb.called_slide import CalledSlide
from mmlnb.pages.slide_page import MOST_LISTED, list_patches, write_slide_page

TAXONOMY = load_taxonomy()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its report."""
    folder = write_run(tmp_path_factory.mktemp("run"))
    mmlnb.report(folder)
    return folder


@pytest.fixture(scope="module")
def slide() -> CalledSlide:
    """A slide of 64 patches, one in five not described."""
    return draw_slide(TAXONOMY)


@pytest.fixture(scope="module")
def slide_page(slide: CalledSlide, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page."""
    page = tmp_path_factory.mktemp("slides") / "folder" / "a b.svs.html"
    write_slide_page(slide, page, taxonomy=TAXONOMY, notice="", read=read_any(slide))
    return page


def test_measures_are_the_same_on_the_page_in_json_and_in_csv(run: Path) -> None:
    metrics = json.loads((run / "evaluate" / "metrics.json").read_text())
    assert json.loads((run / "report" / "index.json").read_text())["metrics"] == metrics
    cells = table(read_page(run / "report" / "index.html"), "Measures by arm")
    assert cells[0] == ["Measure", "image only", "text only", "fused"]
    shown = {row[0]: row[3] for row in cells[1:]}
    fused = metrics["fused"]
    low, high = fused["intervals"]["balanced_accuracy"]
    assert shown["Balanced accuracy"] == f"{fused['balanced_accuracy']:.3f} {low:.3f} to {high:.3f}"
    assert shown["AUPRC"].startswith(f"{fused['auprc']:.3f}")
    assert shown["Calibration error"].startswith(f"{fused['calibration']['error']:.3f}")
    frame = pd.read_csv(run / "report" / "index.csv")
    rows = frame.query("level == 'patches' and arm == 'fused'")
    balanced = rows.query("measure == 'balanced_accuracy'").iloc[0]
    assert (balanced["value"], balanced["low"], balanced["high"]) == pytest.approx(
        (fused["balanced_accuracy"], low, high)
    )
    called = rows[rows["table"] == "confusion"]["value"].astype(int).tolist()
    assert called == [count for counts in fused["confusion"] for count in counts]
    points = rows[(rows["table"] == "risk coverage") & (rows["measure"] == "risk")]["value"]
    assert points.tolist() == pytest.approx([point["risk"] for point in fused["risk_coverage"]["points"]])


def test_every_class_of_every_arm_has_its_row(run: Path) -> None:
    metrics = json.loads((run / "evaluate" / "metrics.json").read_text())
    cells = table(read_page(run / "report" / "index.html"), "Measures by class")
    assert len(cells) == 1 + 3 * 3
    values = metrics["fused"]["per_class"]["UD"]
    assert cells[1] == [
        *("fused", "UD", str(values["support"])),
        *(f"{values[name]:.3f}" for name in ("precision", "recall", "f1", "auroc", "auprc")),
    ]


def test_slides_and_failures_are_listed_with_their_reasons(run: Path) -> None:
    page = read_page(run / "report" / "index.html")
    rows = table(page, "Slides")
    frame = pd.read_csv(run / "report" / "index-slides.csv").set_index("slide")
    data = {one["slide"]: one for one in json.loads((run / "report" / "index.json").read_text())["slides"]}
    assert [row[0] for row in rows[1:]] == list(frame.index) == list(data)
    for name, status, subtype, *rest in rows[1:]:
        assert (status, subtype or None) == (data[name]["status"], data[name]["subtype"] or None)
        if status == "ok":
            assert rest[:3] == [f"{frame.loc[name, f'p_{one}']:.2f}" for one in TAXONOMY.class_names]
    (failure,) = table(page, "Slides that were not called")[1:]
    assert failure == ["S000.svs", "failed", "S000.svs: <b>cannot</b> be read", "1"]
    assert "<b>" not in (run / "report" / "index.html").read_text()


def test_an_evaluation_of_an_earlier_version_is_shown_without_what_it_lacks(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", slides=0)
    path = run / "evaluate" / "metrics.json"
    old = old_metrics(json.loads(path.read_text()))
    write_json(path, old)
    mmlnb.report(run)
    page = read_page(run / "report" / "index.html")
    titles = [heading.text for heading in page.find("h2")]
    assert "Patches of held-out patients" in titles and "Per class" not in titles
    shown = dict(row[::3] for row in table(page, "Measures by arm")[1:])
    assert shown["Balanced accuracy"] == f"{old['fused']['balanced_accuracy']:.3f}"
    assert "Calibration error" not in shown
    assert [svg.attributes["aria-label"] for svg in page.find("svg")] == ["Confusion matrix of the patches, fused"]


def test_an_evaluation_without_texts_says_so_by_leaving_their_measures_undefined(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", slides=0)
    write_json(run / "evaluate" / "metrics.json", draw_metrics(TAXONOMY.class_names, patients=12, texts=False))
    mmlnb.report(run)
    page = read_page(run / "report" / "index.html")
    assert {row[2] for row in table(page, "Measures by arm")[1:]} <= {"–", "– –"}
    assert len(page.find("svg")) == 5


def test_the_training_is_shown_epoch_by_epoch(run: Path) -> None:
    page = read_page(run / "report" / "training.html")
    history = pd.read_csv(run / "train" / "history.csv")
    rows = table(page, "Epochs of the fusion")
    assert len(rows) == 1 + len(history)
    assert rows[0][:3] == ["Stage", "Epoch", "α"]
    assert [row[0] for row in rows[1:]] == list(history["stage"])
    column = rows[0].index("Gate, median")
    assert [float(row[column]) for row in rows[1:]] == pytest.approx(list(history["val_gate_q50"]), rel=1e-3)
    pd.testing.assert_frame_equal(pd.read_csv(run / "report" / "training-fusion.csv"), history)
    figures = [svg.attributes["aria-label"] for svg in page.find("svg")]
    assert "Distribution of the gate over the validation patches, epoch by epoch" in figures
    data = json.loads((run / "report" / "training.json").read_text())
    assert [row["val_loss"] for row in data["fusion"]] == list(history["val_loss"])
    assert {row["step"] for row in data["samples"]} == {10, 20, 30}


def test_a_patch_is_shown_with_what_was_written_of_it_in_every_epoch(run: Path) -> None:
    text = (run / "report" / "training.html").read_text()
    assert "<script>10" not in text
    (card,) = read_page(run / "report" / "training.html").find("article", **{"aria-label": "P1/0.jpg"})
    written = [line.text for line in card.find("p") if line.text.startswith("Epoch")]
    assert written == [
        f"Epoch {step // 10}.0: <script>{step}</script> scant neuropil | no rosettes" for step in (10, 20, 30)
    ]


def test_a_history_without_the_gate_is_shown_without_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", slides=0)
    history = pd.read_csv(run / "train" / "history.csv")
    history[[name for name in history if "gate" not in name and name != "kept"]].to_csv(
        run / "train" / "history.csv", index=False
    )
    mmlnb.report(run)
    page = read_page(run / "report" / "training.html")
    assert not [svg for svg in page.find("svg") if "gate" in svg.attributes["aria-label"]]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the folder of a run"):
        mmlnb.report(tmp_path)


def _counted(page: Element) -> dict[str, list[int]]:
    """Anchor to the patches that the page lists under it."""
    return {
        listed.attributes["id"]: [int(link.text) for link in listed.find("a")]
        for listed in page.find("p", class_="numbers")
    }


def test_every_figure_of_the_summary_leads_to_as_many_patches(slide_page: Path, slide: CalledSlide) -> None:
    page = read_page(slide_page)
    (paragraph,) = page.find("p", class_="summary")
    listed = _counted(page)
    links = paragraph.find("a")
    assert len(links) > 8
    for link in links:
        assert int(link.text) == len(listed[link.attributes["href"].removeprefix("#")]), link.text
    # Nothing else is said in numbers than totals, shares, and how many patches were described.
    rest = re.sub(r"\(\d+%\)|of \d+", "", paragraph.text)
    described = slide.record.captioned
    assert sorted(map(int, re.findall(r"\d+", rest))) == sorted([described, *(int(link.text) for link in links)])


def test_counted_findings_are_those_of_the_table_of_patches(slide_page: Path, slide: CalledSlide) -> None:
    frame = pd.read_csv(slide_page.with_name("a b.svs.csv")).set_index("patch")
    page = read_page(slide_page)
    listed = _counted(page)
    rows = {(row[0], row[1]): row for row in _grouped(table(page, "Findings over the patches")[1:])}
    data = json.loads(slide_page.with_name("a b.svs.json").read_text())
    in_json = {(one["subject"], one["value"]): one["patches"] for one in data["counts"]}
    for number, (name, finding) in enumerate(TAXONOMY.findings.items()):
        described = frame[frame["text"].notna()]
        for place, value in enumerate(finding.values):
            stated = described.index[described[f"finding_{name}"] == value].tolist()
            assert listed.get(f"finding-{number}-{place}", []) == stated
            if stated:
                assert rows[finding.title, value][2:4] == [str(len(stated)), f"{len(stated) / len(described):.0%}"]
                assert in_json[finding.title, value] == len(stated)
    assert rows["Neuropil", "abundant"][2] == "13"
    assert len(frame) == len(slide.tiles) and frame["text"].tolist()[0] == CAPTIONS[0]


def _grouped(rows: list[list[str]]) -> list[list[str]]:
    """Rows with the head of their group put in front where it spans several."""
    grouped, head = [], ""
    for row in rows:
        head = row[0] if len(row) == 5 else head
        grouped.append(row if len(row) == 5 else [head, *row])
    return grouped


def test_probabilities_come_with_an_interval_that_holds_them(slide_page: Path, slide: CalledSlide) -> None:
    data = json.loads(slide_page.with_name("a b.svs.json").read_text())
    for one, row in zip(data["classes"], table(read_page(slide_page), "Probabilities by class")[1:], strict=True):
        low, high = one["interval"]
        assert low < one["probability"] < high
        assert row[1:3] == [f"{one['probability']:.3f}", f"{low:.3f} to {high:.3f}"]
        assert one["probability"] == pytest.approx(slide.record.probabilities[one["class"]], abs=1e-6)
    assert sum(one["patches"] for one in data["classes"]) == len(slide.tiles)


def test_a_hostile_caption_is_shown_as_text(slide_page: Path) -> None:
    assert "<script>alert" not in slide_page.read_text()
    assert "&lt;script&gt;alert" in slide_page.read_text()


def test_a_slide_without_captions_has_its_page(tmp_path: Path) -> None:
    slide = draw_slide(TAXONOMY, captions=(None,))
    write_slide_page(slide, tmp_path / "a.html", taxonomy=TAXONOMY, notice="", read=lambda _: {})
    page = read_page(tmp_path / "a.html")
    (paragraph,) = page.find("p", class_="summary")
    assert paragraph.text.endswith("No patch was described, so no finding can be counted.")
    assert "The slide can no longer be read here." in [line.text for line in page.find("p", class_="missing")]


def test_a_slide_of_one_patch_has_a_page_without_an_interval(tmp_path: Path) -> None:
    slide = draw_slide(TAXONOMY, columns=1)
    write_slide_page(slide, tmp_path / "a.html", taxonomy=TAXONOMY, notice="", read=read_any(slide))
    assert {row[2] for row in table(read_page(tmp_path / "a.html"), "Probabilities by class")[1:]} == {"–"}


def test_of_many_patches_the_page_lists_some_and_says_so(tmp_path: Path) -> None:
    listed = list_patches(10 * MOST_LISTED, [3, 7])
    assert {0, 3, 7, 10 * MOST_LISTED - 1} <= set(listed)
    assert MOST_LISTED <= len(listed) <= MOST_LISTED + 2
    assert list_patches(5, [3]) == [0, 1, 2, 3, 4]


def test_the_same_slide_gives_the_same_page(slide: CalledSlide, slide_page: Path, tmp_path: Path) -> None:
    write_slide_page(slide, tmp_path / "again.html", taxonomy=TAXONOMY, notice="", read=read_any(slide))
    assert (tmp_path / "again.html").read_text().replace("again.", "a%20b.svs.") == slide_page.read_text()
    assert (tmp_path / "again.json").read_bytes() == slide_page.with_name("a b.svs.json").read_bytes()
