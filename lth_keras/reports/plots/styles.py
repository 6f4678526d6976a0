"""The colour, marker, line and label of every branch, run and level in a picture."""

from typing import Any

import numpy as np

from lth_keras.core.controls import CONTROLS
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.strategies import chain_branches

# The colours of Okabe & Ito, which colour-blind readers can tell apart.  Their yellow is left out:
# it is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
_LINES = ("--", "-.", ":")


def title(branch: str) -> str:
    """The name of a branch in a legend."""
    return CONTROLS[branch].title if branch in CONTROLS else branch


def style(branch: str) -> dict[str, Any]:
    """The colour, marker, line and label of a branch, as matplotlib takes them.

    The ticket's line is solid.  No two controls share both colour and marker: each new control
    gets the next pair.  A branch that is not registered is drawn with a grey cross.

    Example:
      >>> style("ticket")["linestyle"], style("reinit")["linestyle"], style("gone")["marker"]
      ('-', '--', 'x')
    """
    order = (TICKET, *CONTROLS, *chain_branches())
    if branch not in order:
        return {"color": COLOURS[-1], "marker": "x", "linestyle": ":", "label": branch}
    place = order.index(branch)
    return {"color": COLOURS[place % len(COLOURS)], "marker": _MARKERS[place % len(_MARKERS)],
            "linestyle": _LINES[(place - 1) % len(_LINES)] if place else "-",
            "label": title(branch)}


def run_style(place: int, label: str, branch: str) -> dict[str, Any]:
    """The style of a branch in a picture of several runs: each run has a colour.

    Args:
      place: of the run, from 0.
      label: of the run.
      branch: the branch.
    """
    return {**style(branch), "color": COLOURS[place % len(COLOURS)],
            "label": f"{label}: {title(branch)}"}


def series_style(place: int, label: str) -> dict[str, Any]:
    """The style of one of several lines: no two share both colour and marker.

    Args:
      place: the line's number, from 0.
      label: its name in the legend.
    """
    return {"color": COLOURS[place % len(COLOURS)], "marker": _MARKERS[place % len(_MARKERS)],
            "linestyle": "-" if place < len(COLOURS) else "--", "markersize": 4,
            "linewidth": 1.4, "label": label}


def shades(count: int) -> list[Any]:
    """Colours from dark to light, whose order can be seen in black and white too."""
    from matplotlib import colormaps
    return list(colormaps["viridis"](np.linspace(0, 0.85, count)))
