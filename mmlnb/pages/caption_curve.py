"""How the call of a slide settles as its captions are added."""

import numpy as np
from markupsafe import Markup

from data.taxonomy import Taxonomy
from mmlnb.pages.drawing import STYLES, draw, styled, svg
from mmlnb.palette import class_colours, css


@styled
def caption_curve_figure(steps: np.ndarray, curve: np.ndarray, taxonomy: Taxonomy, *, patches: int) -> Markup:
    """The slide's probabilities `curve` (steps, classes) over the share of its `patches` that `steps` captions are."""
    figure, axes = draw(5.2, 2.6)
    share = 100 * steps / patches
    for index, (name, colour) in enumerate(class_colours(taxonomy).items()):
        axes.plot(share, curve[:, index], STYLES[index % len(STYLES)], color=css(colour), label=name)
    axes.set_xlim(0, float(share[-1]))
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("described patches, % of all, in the order of choice")
    axes.set_ylabel("probability of the slide")
    axes.legend(loc="center right")
    return svg(figure, "captions", "Probabilities of the slide as captions are added; the values are in the JSON")
