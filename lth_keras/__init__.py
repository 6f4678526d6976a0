"""lth_keras: finds winning lottery tickets in Keras models, of tf_keras and of Keras 3.

Its packages, each of which imports only from those above it:

    core          functions of NumPy arrays: masks, criteria, fractions, pruning
    controls      networks with as few weights as a ticket, which it is compared with
    files         tickets and other files, which are read as untrusted; atomic writes, locks
    strong        subnetworks of random networks that compute a target untrained: `lth.strong`
    search        one model pruned and rewound level by level, in one `fit` or in a loop
    initial       tickets of untrained models, by scores: `lth.prune_at_init`
    sparse_training  masks found while a model trains: `lth.Supermask`, `lth.SparseTraining`
    costs         parameters, multiply-adds and activations of a model, by layer: `lth.profile`
    keras2        the engine for tf_keras and tfmot: masked layers, rewinding
    keras3        the engine for Keras 3, on any backend: masks in the optimizer
    experiments   the papers' experiments: levels x branches x replicates, and their results
    deployment    exports trained networks to other formats, and checks the files
    reports       tables, verdicts, figures, analyses, the HTML page
    api           an experiment and its pictures from Python: `lth.run`, `lth.plot`; `lth.convert`
    cli           the command `lth`

The public names are listed in `__all__`.  Each is loaded when it is first used, so `import
lth_keras` alone does not import TensorFlow.
"""

import importlib
import sys
from typing import Any, TYPE_CHECKING

from lth_keras import extras, providers, saved_names
from lth_keras._version import __version__ as __version__
from lth_keras.files import engines

if TYPE_CHECKING:
    from lth_keras import strong
    from lth_keras.api.convert import convert
    from lth_keras.api.plot import paper_figure, plot, plot_curves
    from lth_keras.api.run import run
    from lth_keras.costs.profile import profile
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
    from lth_keras.initial.prune_at_init import prune_at_init
    from lth_keras.keras2.masking.schedule import LotteryTicketSchedule
    from lth_keras.keras2.masking.wrap import prune_low_magnitude, strip_pruning
    from lth_keras.search.fit.callback import LotteryTicketCallback
    from lth_keras.search.fit.early_bird import EarlyBird
    from lth_keras.search.search import Search
    from lth_keras.search.sparse_models import keep_sparse
    from lth_keras.search.verification.verify import verify
    from lth_keras.sparse_training.sparse_training import SparseTraining
    from lth_keras.sparse_training.supermask import Supermask

_HOMES = {
    "prune_low_magnitude": "keras2.masking.wrap",
    "strip_pruning": "keras2.masking.wrap",
    "convert": "api.convert",
    "compact": "deployment.compaction.compact",
    "LotteryTicketSchedule": "keras2.masking.schedule",
    "LotteryTicketCallback": "search.fit.callback",
    "EarlyBird": "search.fit.early_bird",
    "Search": "search.search",
    "keep_sparse": "search.sparse_models",
    "Ticket": "files.ticket",
    "export": "deployment.export",
    "profile": "costs.profile",
    "prune_at_init": "initial.prune_at_init",
    "run": "api.run",
    "plot": "api.plot",
    "plot_curves": "api.plot",
    "paper_figure": "api.plot",
    "SparseTraining": "sparse_training.sparse_training",
    "Supermask": "sparse_training.supermask",
    "verify": "search.verification.verify",
    "LotteryError": "errors",
    "TicketError": "errors",
    "WorkdirError": "errors",
    "DivergedError": "errors",
    "InvariantError": "errors",
}

_PACKAGES = ("strong",)  # Public as a whole: lth.strong.subset_sum.

__all__ = [
    "DivergedError",
    "EarlyBird",
    "InvariantError",
    "LotteryError",
    "LotteryTicketCallback",
    "LotteryTicketSchedule",
    "Search",
    "SparseTraining",
    "Supermask",
    "Ticket",
    "TicketError",
    "WorkdirError",
    "compact",
    "convert",
    "export",
    "keep_sparse",
    "paper_figure",
    "plot",
    "plot_curves",
    "profile",
    "prune_at_init",
    "prune_low_magnitude",
    "run",
    "strip_pruning",
    "strong",
    "verify",
]

# What a package needs from one above it, which it does not import. By name, since an import would
# load TensorFlow.
engines.register("tf_keras", "lth_keras.keras2.engine")
engines.register("keras", "lth_keras.keras3.engine")
providers.register(providers.DATA_ORDER, "lth_keras.keras2.data_order", "DataOrder")
providers.register(providers.DATA_ORDER_OF_KERAS, "lth_keras.keras3.data_order", "DataOrder")
providers.register(providers.VERIFIED["tf_keras"], "lth_keras.keras2.verification.wrapped_subject",
                   "WrappedSubject")
providers.register(providers.VERIFIED["keras"], "lth_keras.keras3.verification.plain_subject",
                   "PlainSubject")
providers.register(providers.MODEL_RUN["tf_keras"], "lth_keras.keras2.model_run", "TfKerasRun")
providers.register(providers.MODEL_RUN["keras"], "lth_keras.keras3.model_run", "Keras3Run")
providers.register(providers.SCORED["tf_keras"], "lth_keras.keras2.initial.tf_keras_scored",
                   "TfKerasScored")
providers.register(providers.SCORED["keras"], "lth_keras.keras3.initial.keras3_scored",
                   "Keras3Scored")
providers.register(providers.SUPERMASK["tf_keras"],
                   "lth_keras.keras2.sparse_training.tf_keras_supermask", "TfKerasSupermask")
providers.register(providers.SPARSE_TRAINING["tf_keras"],
                   "lth_keras.keras2.sparse_training.tf_keras_sparse_training",
                   "TfKerasSparseTraining")
providers.register(providers.SUPERMASK["keras"],
                   "lth_keras.keras3.sparse_training.keras3_supermask", "Keras3Supermask")
providers.register(providers.SPARSE_TRAINING["keras"],
                   "lth_keras.keras3.sparse_training.keras3_sparse_training",
                   "Keras3SparseTraining")
providers.register(providers.PROFILE, "lth_keras.costs.profile", "profile")
providers.register(providers.SMALLER, "lth_keras.api.smaller_training", "smaller")
providers.register(providers.FILE_COSTS, "lth_keras.api.file_costs", "shares_left")
providers.register(providers.EARLY_BIRD_FIGURE, "lth_keras.reports.plots.early_bird_figure", "save")
providers.register(providers.PLOT, "lth_keras.api.plot", "plot")
providers.register(providers.REPORT_OF_A_SEARCH, "lth_keras.reports.report", "report_search")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"lth_keras.{name}")
    home = _HOMES.get(name) or saved_names.HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lth_keras' has no attribute {name!r}; it has "
                             f"{', '.join(__all__)}")
    with extras.needed_for(f"lth.{name}"):
        globals()[name] = value = getattr(importlib.import_module(f"lth_keras.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, "__doc__", "__version__"})


saved_names.make_known(sys.modules[__name__])
