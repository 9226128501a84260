"""Matplotlib figures as inline SVG that follows the page: its ink, light or dark, and its ids."""

import io
import re
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

# Stands for the colour of the page's text, which is dark on paper and light at night.
INK = "#012345"
# Okabe and Ito's colours that are told apart on white and on black alike, and the lines that tell them apart without.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
STYLES = ("-", "--", ":", "-.")
_STYLE: dict[Any, Any] = {
    # Fixed ids.
    "svg.hashsalt": "mmlnb",
    "svg.fonttype": "path",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor", "savefig.facecolor", "legend.facecolor"), "none"),
    "legend.frameon": False,
    "legend.fontsize": 8,
    "grid.color": "#808080",
    "grid.alpha": 0.3,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def styled(function: Callable[Arguments, Markup]) -> Callable[Arguments, Markup]:
    """Let `function` draw in the style of the pages; whoever else uses matplotlib in this process keeps theirs."""

    @wraps(function)
    def drawn(*arguments: Arguments.args, **named: Arguments.kwargs) -> Markup:
        import matplotlib

        with matplotlib.rc_context(_STYLE):
            return function(*arguments, **named)

    return drawn


def draw(width: float, height: float) -> tuple["Figure", Any]:
    """A figure of so many inches, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def svg(figure: "Figure", name: str, title: str) -> Markup:
    """`figure` as SVG; `name` is unique on the page, `title` is what a screen reader says in its place."""
    buffer = io.StringIO()
    # No date: the same run gives the same page.
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    # Inside HTML neither is needed, and both hold addresses.
    drawing = re.sub(r"<metadata>.*?</metadata>\s*", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'\s+xmlns(:xlink)?="[^"]*"', "", drawing)
    drawing = re.sub(r'\bid="', f'id="{name}-', drawing)
    drawing = re.sub(r'(href="|url\()#', rf"\1#{name}-", drawing)
    drawing = drawing.replace(INK, "currentColor")
    return Markup(drawing.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1))
