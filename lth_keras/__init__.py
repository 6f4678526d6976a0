"""lth_keras: winning tickets in tf_keras models.

A reader who follows a network through the package meets each module once:

    masks, criteria, fractions, prune    arrays in, arrays out: what is kept, and why
    structures, structured               pruned together: blocks, and m of every n
    controls, branches, config,
    ticketfile, store                    settings, the ticket file, where results lie
    weights, prunable, zero, view,
    wrapper, tracking, replace,
    wrapped, saving, wrap                a model's weights by name, masked in place of pruned
    schedule, rewind, search             when a round ends, what it restores
    course, callback                     a search in one `fit`
    order, statefile, workdir, resume    a search that outlives its process
    channels, take, operations,
    graph, surgery, compaction           what pruning leaves over, as a smaller network
    presets, data, networks, models,
    rates, program, feed, train          the papers' networks, trained in compiled loops
    agenda, experiment, lab, workers     what is trained, how, and by whom
    conversion, formats, runtimes,
    checks, shipping, deployment         trained networks as files that are checked
    stats, verdicts, figures, page,
    report                               tables, verdicts, pictures, a page
    survivors, movement, connections,
    overlaps, barrier, instability       analyses: which weights, how they moved, how stable
    deploy, cli                          the command `lth`

The public names are those of `__all__`.
"""

import importlib
import os
import pathlib
import sys
from typing import Any, TYPE_CHECKING

from lth_keras._version import __version__ as __version__

if TYPE_CHECKING:
    from lth_keras.deployment.compaction.compact import compact
    from lth_keras.deployment.export import export
    from lth_keras.errors import (
        DivergedError,
        InvariantError,
        LotteryError,
        TicketError,
        WorkdirError,
    )
    from lth_keras.files.ticket import Ticket
    from lth_keras.keras2.fit.callback import LotteryTicketCallback
    from lth_keras.keras2.masking.schedule import LotteryTicketSchedule
    from lth_keras.keras2.masking.wrap import prune_low_magnitude, strip_pruning
    from lth_keras.keras2.search import Search

_HOMES = {
    "prune_low_magnitude": "keras2.masking.wrap",
    "strip_pruning": "keras2.masking.wrap",
    "compact": "deployment.compaction.compact",
    "LotteryTicketSchedule": "keras2.masking.schedule",
    "LotteryTicketCallback": "keras2.fit.callback",
    "Search": "keras2.search",
    "Ticket": "files.ticket",
    "export": "deployment.export",
    "LotteryError": "errors",
    "TicketError": "errors",
    "WorkdirError": "errors",
    "DivergedError": "errors",
    "InvariantError": "errors",
}

# What Keras writes into files of models by class: their __module__ is "lth_keras" for good, so
# that a module can be renamed without a file that no longer loads.
_SAVED = {
    "MaskedLayer": "keras2.masking.masked_layer",
    "LotteryTicketSchedule": "keras2.masking.schedule",
    "GatherFeatures": "deployment.compaction.gather_layer",
    "Rate": "experiments.training.optimizers",
    "CoupledSGD": "experiments.training.optimizers",
    "WrappedModel": "keras2.masking.saving",
}

__all__ = [
    "DivergedError",
    "InvariantError",
    "LotteryError",
    "LotteryTicketCallback",
    "LotteryTicketSchedule",
    "Search",
    "Ticket",
    "TicketError",
    "WorkdirError",
    "compact",
    "export",
    "prune_low_magnitude",
    "strip_pruning",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or _SAVED.get(name)
    if home is None:
        raise AttributeError(f"module 'lth_keras' has no attribute {name!r}; it has "
                             f"{', '.join(__all__)}")
    return getattr(importlib.import_module(f"lth_keras.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*__all__, "__doc__", "__version__"})


def _is_command() -> bool:
    if "LTH_KERAS_WORKER" in os.environ:  # A process that the command started.
        return True
    as_script = pathlib.Path(sys.argv[0] if sys.argv else "").name in ("lth", "lth.exe")
    return as_script or sys.orig_argv[1:3] == ["-m", "lth_keras"]


# A program gets the engine at once, so that Keras can load saved wrappers and schedules.
# The command does without until it trains: `lth --help` need not wait for TensorFlow.
if not _is_command():
    for _name in (*__all__, *_SAVED):
        globals()[_name] = __getattr__(_name)
    # Keras seeks this one by its registered name.
    globals()["lth_keras>WrappedModel"] = globals()["WrappedModel"]
