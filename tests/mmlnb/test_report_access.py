"""Every page can be read with a keyboard, a screen reader, at night, on paper and without a network."""

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from drawn_pages import PAGES, write_pages
from html_page import Element, read_page

import mmlnb

TEMPLATE = Path(mmlnb.__file__).parent / "pages" / "templates" / "base.html.j2"
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one page of each kind."""
    return write_pages(tmp_path_factory.mktemp("run"))


@pytest.fixture(params=PAGES)
def page(run: Path, request: pytest.FixtureRequest) -> Element:
    """The elements of each page in turn."""
    return read_page(run / request.param)


def test_a_page_has_a_language_a_title_and_one_of_each_landmark(page: Element) -> None:
    (html,) = page.find("html")
    assert html.attributes["lang"] == "en"
    assert page.find("title")[0].text
    assert [len(page.find(tag)) for tag in ("header", "main", "footer", "h1")] == [1, 1, 1, 1]
    assert all(nav.attributes["aria-label"] for nav in page.find("nav"))
    assert page.find("meta", name="viewport")


def test_headings_skip_no_level(page: Element) -> None:
    levels = [int(element.tag[1]) for element in page.all() if re.fullmatch(r"h[1-6]", element.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels


def test_pictures_and_figures_have_words(page: Element) -> None:
    for image in page.find("img"):
        assert image.attributes["alt"]
    for element in page.all():
        if element.tag == "svg" or element.attributes.get("role") in ("img", "region"):
            assert element.attributes["aria-label"], element
            assert element.attributes["role"] in ("img", "region")


def test_heads_of_tables_say_what_they_head_and_wide_tables_can_be_scrolled_by_key(page: Element) -> None:
    for head in page.find("th"):
        assert head.attributes["scope"] in ("col", "row", "rowgroup")
        assert head.text
    labels = [region.attributes["aria-label"] for region in page.find("div", role="region")]
    assert len(labels) == len(set(labels))
    for table in page.find("table"):
        (region,) = [above for above in table.above() if "scroll" in above.attributes.get("class", "").split()]
        assert (region.attributes["role"], region.attributes["tabindex"]) == ("region", "0")


def test_sorted_columns_are_headed_by_buttons_and_say_how_they_are_sorted(page: Element) -> None:
    for button in page.find("button"):
        assert button.attributes["type"] == "button" and button.text
        assert button.parent is not None and button.parent.attributes["aria-sort"] in ("none", "ascending")
    for table in page.find("table", class_="sortable"):
        assert len(table.find("th", **{"aria-sort": "ascending"})) == 1
        assert table.find("button")


def test_ids_are_unique_and_links_lead_somewhere(page: Element) -> None:
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.all():
        for name in ("href", "xlink:href"):
            if element.attributes.get(name, "").startswith("#"):
                assert element.attributes[name][1:] in ids


def test_nothing_is_loaded_from_elsewhere(run: Path) -> None:
    for name in PAGES:
        text = (run / name).read_text(encoding="utf-8")
        assert "http:" not in text and "https:" not in text, name
        assert not re.search(r"@import|<link|<iframe|<script[^>]*src|url\((?!#)", text), name
        for source in re.findall(r'\bsrc="([^"]{0,30})', text):
            assert source.startswith("data:image/"), name


def test_files_beside_a_page_that_it_names_are_there(run: Path) -> None:
    for name in PAGES:
        links = [link.attributes["href"] for link in read_page(run / name).find("a")]
        beside = [link for link in links if re.search(r"\.(json|csv)$|training\.html$", link)]
        assert beside
        for link in beside:
            assert ((run / name).parent / link.replace("%20", " ")).is_file(), (name, link)


def _colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_stands_out_from_what_is_behind_it(scheme: str) -> None:
    style = TEMPLATE.read_text(encoding="utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", style)
    assert len(blocks) == 3
    colours = _colours(blocks[["light", "dark", "print"].index(scheme)])
    pairs = [(text, behind) for text in ("ink", "soft", "link") for behind in ("paper", "panel", "target")]
    for text, behind in [*pairs, ("ink", "mark"), ("bar", "paper")]:
        bright, dim = sorted((_luminance(colours[text]), _luminance(colours[behind])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (scheme, text, behind)


def test_what_has_the_focus_is_outlined() -> None:
    style = TEMPLATE.read_text(encoding="utf-8")
    (rule,) = re.findall(r"([^\n]*):focus-visible \{ outline: 2px", style)
    for what in ("button.sort", "a", "summary", ".scroll"):
        assert what in rule.replace(":focus-visible", "").split(", "), what


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_click_on_a_head_sorts_and_a_second_one_turns_it_round(run: Path, tmp_path: Path) -> None:
    text = (run / "report" / "index.html").read_text(encoding="utf-8")
    for clicks, direction in ((1, "ascending"), (2, "descending")):
        click = (
            "[...document.querySelectorAll('button.sort')].find(one => one.textContent === 'p UD').click();" * clicks
        )
        copy = tmp_path / f"{clicks}.html"
        copy.write_text(text.replace("</body>", f"<script>{click}</script></body>"), encoding="utf-8")
        dumped = tmp_path / f"{clicks}-after.html"
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
        command = [str(CHROMIUM), *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", copy.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        dumped.write_text(done.stdout, encoding="utf-8")
        page = read_page(dumped)
        (slides,) = [one for one in page.find("table", class_="sortable") if "µm/px" in one.text]
        (head,) = slides.find("th", **{"aria-sort": direction})
        assert head.text == "p UD"
        assert len(slides.find("th", **{"aria-sort": "none"})) == len(slides.find("button")) - 1
        values = [row.find("td")[3].text for row in slides.find("tbody")[0].find("tr")]
        # The failed slide has no value and stays at the end.
        assert values[-1] == "" and values[:-1] == sorted(values[:-1], reverse=clicks == 2)
