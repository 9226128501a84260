"""Captions with their findings marked."""

from markupsafe import Markup, escape

from data.findings import find_mentions
from data.taxonomy import Taxonomy


def highlight(text: str, taxonomy: Taxonomy) -> Markup:
    """Escape `text` and mark every finding in it; the value read is the mark's title."""
    parts: list[Markup] = []
    end = 0
    for mention in find_mentions(text, taxonomy):
        title = f"{taxonomy.findings[mention.finding].title}: {mention.value}"
        parts.append(escape(text[end : mention.start]))
        parts.append(Markup('<mark title="{}">{}</mark>').format(title, text[mention.start : mention.end]))
        end = mention.end
    return Markup("").join([*parts, escape(text[end:])])
