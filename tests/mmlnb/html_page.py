"""An HTML page as its elements, to look at what it says and how."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br", "link", "hr", "input", "path", "use", "rect"}


@dataclass
class Element:
    """One element."""

    tag: str
    attributes: dict[str, str]
    parent: "Element | None" = None
    children: list["Element"] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def find(self, tag: str, **attributes: str) -> list["Element"]:
        """Descendants of a tag with these attributes, in order."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            element
            for element in self.all()
            if element.tag == tag and all(element.attributes.get(name) == value for name, value in wanted.items())
        ]

    def all(self) -> Iterator["Element"]:
        """All descendants, in order."""
        for child in self.children:
            yield child
            yield from child.all()

    def above(self) -> Iterator["Element"]:
        """Parent, grandparent and so on."""
        if self.parent is not None:
            yield self.parent
            yield from self.parent.above()

    @property
    def text(self) -> str:
        """What it says, spaces run together."""
        return " ".join("".join(self._pieces()).split())

    def _pieces(self) -> Iterator[str]:
        yield from self.texts
        for child in self.children:
            yield from child._pieces()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.at = self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, parent=self.at)
        self.at.children.append(element)
        if tag not in VOID:
            self.at = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.children.append(Element(tag, {name: value or "" for name, value in attrs}, parent=self.at))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        # A text is an element without a tag, so that it keeps its place.
        self.at.children.append(Element("#text", {}, parent=self.at, texts=[data]))


def read_page(path: Path) -> Element:
    """The elements of the page at `path`; asserts that what is opened is closed."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.at is reader.root, f"{path}: <{reader.at.tag}> is not closed"
    return reader.root


def table(page: Element, label: str) -> list[list[str]]:
    """Cells of the table that a screen reader calls `label`, the head first."""
    (region,) = page.find("div", role="region", **{"aria-label": label})
    return [[cell.text for cell in row.children if cell.tag in ("th", "td")] for row in region.find("tr")]
