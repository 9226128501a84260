"""Captions with their findings marked."""

from markupsafe import Markup, escape

from data.findings import find_mentions
from data.taxonomy import Taxonomy


def highlight(text: str, taxonomy: Taxonomy) -> Markup:
    """Escape `text` and mark every finding in it; the value read is the mark's title, and a denied one has a class."""
    parts: list[Markup] = []
    end = 0
    for mention in find_mentions(text, taxonomy):
        finding = taxonomy.findings[mention.finding]
        title = f"{finding.title}: {mention.value}"
        mark = (
            '<mark class="denied" title="{}">{}</mark>'
            if mention.value == finding.denied
            else '<mark title="{}">{}</mark>'
        )
        parts.append(escape(text[end : mention.start]))
        parts.append(Markup(mark).format(title, text[mention.start : mention.end]))
        end = mention.end
    return Markup("").join([*parts, escape(text[end:])])
