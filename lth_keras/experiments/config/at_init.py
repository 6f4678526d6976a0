"""The strategies that score the weights before training, and what goes together with them.

The masks of every level are those of `lth.prune_at_init` at theta_k, with as many weights as with
any other strategy.
"""

from typing import Any

from lth_keras.controls.control import INVERTED, TRAINED
from lth_keras.core.structures.words import parse
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import validation
from lth_keras.experiments.config.strategies import register, RETRAININGS, STRATEGIES, Strategy
from lth_keras.initial.prune_at_init import WITH_DATA


def _at_init(method: str, said: str, named: str = "") -> None:
    # The name says when, where a criterion has the method's name too.
    @register
    class AtInit(Strategy):
        """Prunes every level by scores of the dense network at theta_k; see `lth.prune_at_init`.

        Scores are of the network as it is, each level has as many weights as with any other
        strategy, and tickets need no trained networks.  The sanity checks of Frankle et al., ICLR
        2021 (arXiv:2009.08576) are the branches shuffled_mask, reinit and inverted.
        """

        one_shot, at_init = True, method
        name, summary = named or method, said

        def check(self, config: Any) -> None:
            """Checks that tickets have theta_k, whose weights are scored."""
            if not RETRAININGS[config.retraining].rewinds:
                raise LotteryError(f"strategy={self.name} scores theta_k, which its tickets then "
                                   "have, so it needs retraining=weight_rewinding. Received: "
                                   f"retraining={config.retraining}.")

_at_init("snip", "scores theta_k by |gradient x weight|")
_at_init("grasp", "scores theta_k by its gradient's flow")
_at_init("synflow", "scores theta_k by its paths, without data")
_at_init("magnitude", "scores theta_k by |weight|", "magnitude_at_init")
_at_init("random", "scores theta_k by random numbers", "random_at_init")


def check_at_init(config: Any) -> None:
    """Checks what goes together with a strategy that scores the weights before training.

    Args:
      config: the settings.

    Raises:
      LotteryError: if a control or a distribution needs such a strategy, or a control needs another
        one, or such a strategy is to prune anything but single weights, or by a criterion.
    """
    method = STRATEGIES[config.strategy].at_init
    inverted = validation.needing(config, INVERTED)
    if not method and inverted:
        raise LotteryError(f"The branch {inverted[0]} needs a strategy that scores the weights "
                           "before training, such as snip. Received: strategy="
                           f"{config.strategy}.")
    trained = validation.needing(config, TRAINED)
    if method and trained:
        raise LotteryError(f"The branch {trained[0]} needs a strategy that scores trained weights, "
                           f"such as iterative. Received: strategy={config.strategy}.")
    if not method and config.distribution != "scope":
        raise LotteryError("distribution is a setting of strategies that score the weights before "
                           f"training, such as random_at_init. Received: {config.distribution} "
                           f"with strategy={config.strategy}.")
    if method not in WITH_DATA and config.scoring_per_class != validation.SCORING_PER_CLASS:
        raise LotteryError("scoring_per_class is of strategies that score by gradients: "
                           f"{' and '.join(WITH_DATA)}. Received: {config.scoring_per_class} with "
                           f"strategy={config.strategy}. Leave it out.")
    if method and not parse(config.structure).is_none:
        raise LotteryError("Strategies that score the weights before training prune single "
                           f"weights. Received: structure={config.structure} with strategy="
                           f"{config.strategy}.")
    given = {name: getattr(config, name) for name, own in (
        ("criterion", "magnitude"), ("against", "theta_k")) if getattr(config, name) != own}
    if method and given:
        said = ", ".join(f"{name}={value}" for name, value in given.items())
        raise LotteryError(f"strategy={config.strategy} is a way to score weights itself. "
                           f"Received: {said} too. Leave it out.")
