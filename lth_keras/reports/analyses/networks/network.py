"""What analyses need of a run's network beside the workdir: its pruning rule, and its accuracy."""

import dataclasses
from collections.abc import Callable, Mapping

from lth_keras.core.fractions import Prunable
from lth_keras.core.masks import Arrays
from lth_keras.core.next_masks import Provided, PruningRule
from lth_keras.errors import WorkdirError
from lth_keras.experiments.config.strategies import RETRAININGS
from lth_keras.experiments.config.trainings import Training
from lth_keras.reports.analyses.analysis import WorkdirReader


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """The network of a run, as far as this analysis needs it.

    Attributes:
      rule: what decides which weights the run prunes.
      prunable: weight name -> its layer, for every prunable weight, in the order of the model.
      evaluate: every weight by name -> "accuracy" on the test set, in [0, 1], and perhaps "loss".
      uses: weight name -> how often each of its numbers is multiplied with for one example; {} if
        that is not known.
      provided: (replicate, theta_k, masks, trained weights) -> what criteria can need, by need.
    """

    rule: PruningRule
    prunable: Mapping[str, Prunable]
    evaluate: Callable[[Arrays], Mapping[str, float]]
    uses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    provided: Callable[[int, Arrays, Arrays, Arrays], Provided] = lambda *_: {}


def theta_k(run: WorkdirReader, replicate: int) -> Arrays:
    """Returns the weights to which a replicate's tickets are rewound, by name."""
    # Tickets hold theta_k from level 1 on.
    rewound = run.config.rewind_step and RETRAININGS[run.config.retraining].rewinds
    return run.ticket(replicate, 1 if rewound else 0).weights


def check_dense_kept(what: str, run: WorkdirReader, dense: Mapping[int, Training]) -> None:
    """Checks that the trained weights of dense networks were kept.

    Args:
      what: the analysis, as a sentence begins.
      run: the workdir.
      dense: replicate -> the dense network's training.

    Raises:
      WorkdirError: if those of a replicate were not.
    """
    missing = [replicate for replicate, training in dense.items()
               if not run.has_trained(training)]
    if missing:
        raise WorkdirError(
            f"{what} needs the trained weights of the dense network, level 0. Received: "
            f"{run.root}, without those of replicate {', '.join(map(str, missing))}. Keep them in "
            f"a new workdir: lth run {run.config.preset} --rounds 0 --set keep_trained=tickets "
            "--workdir NEW, with the run's other flags.")
