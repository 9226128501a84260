"""One colour per class and per reason, the same in every figure, page and export."""

from data.taxonomy import Taxonomy

# Okabe and Ito's palette without black and yellow: told apart with any colour vision, and on pink tissue.
_COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (86, 180, 233), (213, 94, 0), (120, 94, 240))

# Why a tile was left out; glass is left as it is.
REASON_COLOURS = {
    "pen": (0, 114, 178),
    "fold": (213, 94, 0),
    "edge": (90, 90, 90),
    "blur": (204, 121, 167),
    "unreadable": (0, 0, 0),
}


def class_colours(taxonomy: Taxonomy) -> dict[str, tuple[int, int, int]]:
    """RGB of each class, by its place in the taxonomy; beyond six classes the colours repeat."""
    return {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(taxonomy.class_names)}


def css(colour: tuple[int, int, int]) -> str:
    """The colour as CSS hex."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
