"""The colour, marker, line and label of every branch, run and level in a figure."""

from typing import Any

import numpy as np

from lth_keras.controls.known import CONTROLS
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.strategies import chain_branches

# The palette of Okabe & Ito, which colour-blind readers can distinguish, without its yellow, which
# is too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
_LINES = ("--", "-.", ":")
_BLACK, _WHITE = 0, 255


def title(branch: str) -> str:
    """Returns the name of a branch in a legend.

    Example:
      >>> title("random_mask")
      'random mask'
    """
    return CONTROLS[branch].title if branch in CONTROLS else branch


def style(branch: str) -> dict[str, Any]:
    """Returns the colour, marker, line and label of a branch, as arguments for matplotlib.

    The ticket has a solid line.  No two controls share both colour and marker.  A branch that is
    no longer registered gets a grey cross.

    Example:
      >>> style("ticket")["linestyle"], style("reinit")["linestyle"], style("gone")["marker"]
      ('-', '--', 'x')
    """
    # 7 colours and 11 markers repeat together only after 77 branches.
    order = (TICKET, *CONTROLS, *chain_branches())
    if branch not in order:
        return {"color": COLOURS[-1], "marker": "x", "linestyle": ":", "label": branch}
    place = order.index(branch)
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)],
            "linestyle": _LINES[(place - 1) % len(_LINES)] if place else "-",
            "label": title(branch)}


def run_style(place: int, label: str, branch: str) -> dict[str, Any]:
    """Returns the style of a branch in a figure of several runs, in which each run has a colour.

    Args:
      place: the number of the run in the figure, from 0.
      label: the run's label.
      branch: the branch.

    Example:
      >>> run_style(1, "conv2", "ticket")["label"]
      'conv2: ticket'
    """
    # Colour tells runs apart here, so that line and marker are left to tell branches apart.
    return {**style(branch), "color": _colour(place), "label": f"{label}: {title(branch)}"}


def _colour(place: int) -> str:
    # The palette, then the same darker, and lighter: 21 before one comes again.
    shade, colour = divmod(place, len(COLOURS))
    towards = (None, _BLACK, _WHITE)[shade % 3]
    if towards is None:
        return COLOURS[colour]
    parts = bytes.fromhex(COLOURS[colour][1:])
    return "#" + bytes((part + towards) // 2 for part in parts).hex()


def series_style(place: int, label: str) -> dict[str, Any]:
    """Returns the style of one of several lines, of which no two share both colour and marker.

    Args:
      place: the number of the line, from 0.
      label: its name in the legend.

    Example:
      >>> series_style(0, "float32")["label"]
      'float32'
    """
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)],
            "linestyle": "-" if place < len(COLOURS) else "--", "markersize": 4,
            "linewidth": 1.4, "label": label}


def shades(count: int) -> list[Any]:
    """Returns colours from dark to light, whose order is visible in black and white too.

    Example:
      >>> len(shades(3))
      3
    """
    from matplotlib import colormaps
    return list(colormaps["viridis"](np.linspace(0, 0.85, count)))
