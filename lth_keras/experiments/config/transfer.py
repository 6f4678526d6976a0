"""The strategy `transfer`: the tickets of another run, trained on this run's data set.

Morcos et al. (NeurIPS 2019, arXiv:1906.02773): a ticket that was found on one data set is trained
on another.  Nothing is pruned; levels, masks and theta_k are those of the run that `source` names,
replicate by replicate.  The output layer is drawn anew, and stays dense, if it has another shape.
"""

import re
from typing import Any

from lth_keras.controls.control import TRAINED
from lth_keras.controls.known import CONTROLS
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.strategies import register, RETRAININGS, STRATEGIES, Strategy


@register
class Transfer(Strategy):
    """Trains the tickets of another run, and prunes nothing.

    Example:
      >>> Transfer().from_source, Transfer().title
      (True, 'transfer')
    """

    name, summary = "transfer", "trains the tickets of the run in the workdir `source`"
    from_source = True

    def check(self, config: Any) -> None:
        """Checks that every level is trained from the source's weights, for all steps."""
        if not RETRAININGS[config.retraining].rewinds or config.rewind_step:
            raise LotteryError("strategy=transfer trains the source's theta_k for all steps, so it "
                               "needs retraining=weight_rewinding and rewind_step=0; which step k "
                               f"is, the source says. Received: retraining={config.retraining}, "
                               f"rewind_step={config.rewind_step}.")
        taking = [branch.name for branch in config.plan
                  if branch.name in CONTROLS and TRAINED in CONTROLS[branch.name].needs]
        if taking:
            raise LotteryError(f"The branch {taking[0]} needs a strategy that scores trained "
                               "weights, such as iterative. Received: strategy=transfer.")


def check_source(config: Any) -> None:
    """Checks that a source is given if tickets come from one, and only then.

    Args:
      config: the settings.

    Raises:
      LotteryError: if it is not so, or one of the two settings is no text of its kind.
    """
    if not isinstance(config.source, str):
        raise LotteryError(f"source must be the path of a workdir. Received: {config.source!r:.100}"
                           ".")
    if not isinstance(config.source_fingerprint, str) or \
            not re.fullmatch("([0-9a-f]{10})?", config.source_fingerprint):
        raise LotteryError("source_fingerprint must be ten hexadecimal digits. Received: "
                           f"{config.source_fingerprint!r:.100}.")
    given = config.source or config.source_fingerprint
    if STRATEGIES[config.strategy].from_source and not given:
        raise LotteryError(f"strategy={config.strategy} needs the workdir of the run whose tickets "
                           "are trained. Received: none. Give it as --set source=WORKDIR.")
    if given and not STRATEGIES[config.strategy].from_source:
        raise LotteryError("source is the run whose tickets are trained, and this run then makes "
                           "none of its own: it needs strategy=transfer. Received: source="
                           f"{config.source} with strategy={config.strategy}.")
