"""No page has a serious finding of axe, an error in its console, a request to a network or anything wider than it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drawn_pages import PAGES, write_pages

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra `dev`")
axe = pytest.importorskip("axe_playwright_python.base", reason="needs axe-playwright-python, of the extra `dev`")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
# Everything but WCAG's AAA, which asks for contrasts beyond what the pages promise.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice", "experimental"]
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The browser of this machine, none being fetched."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"needs a browser on the PATH: {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one page of each kind."""
    return write_pages(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_quiet_and_no_wider_than_the_screen(
    browser: Any, run: Path, name: str, size: str, scheme: str
) -> None:
    width, height = SIZES[size]
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height}) as context:
        page = context.new_page()
        said, asked = _listen(page)
        page.goto((run / name).as_uri())
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")
        # What is folded away is read as well.
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert _serious(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.body.scrollWidth") <= width
        assert said == []
        assert [address for address in asked if not address.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize(
    ("flaw", "found"),
    [
        ("<img src='data:,'>", "image-alt"),
        ("<p style='color:#999;background:#fff'>faint</p>", "color-contrast"),
        ("<button></button>", "button-name"),
    ],
)
def test_a_flaw_is_found(browser: Any, run: Path, flaw: str, found: str) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto((run / PAGES[2]).as_uri())
        page.evaluate("flaw => document.querySelector('main').insertAdjacentHTML('beforeend', flaw)", flaw)
        assert [line.split(":")[0] for line in _serious(page)] == [found]


def test_an_error_of_a_script_and_a_request_are_heard(browser: Any, tmp_path: Path) -> None:
    page_file = tmp_path / "a.html"
    script = "<script>console.error('one'); throw new Error('two')</script><img src='http://127.0.0.1:9/a.png'>"
    page_file.write_text(script, encoding="utf-8")
    with browser.new_context() as context:
        page = context.new_page()
        said, asked = _listen(page)
        page.goto(page_file.as_uri())
        assert {"one", "two"} <= set(said)
        assert "http://127.0.0.1:9/a.png" in asked


def _listen(page: Any) -> tuple[list[str], list[str]]:
    """What the page says as errors and warnings, and the addresses that it asks for, filled from now on."""
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(error.message))
    page.on("request", lambda request: asked.append(request.url))
    return said, asked


def _serious(page: Any) -> list[str]:
    """axe's findings of serious or critical impact, one line for each place."""
    page.evaluate(axe.AXE_SCRIPT)
    options = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
    found = page.evaluate("options => axe.run(document, options)", options)["violations"]
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]
