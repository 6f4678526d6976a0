"""Controls that find their masks in training, as `lth.Supermask` and `lth.SparseTraining` do."""

import numpy as np

from lth_keras.controls.control import register, THETA_0
from lth_keras.core.masks import Arrays


def _training(method: str, title: str) -> None:
    @register(method, title, drawn=True, mask="free", needs=(THETA_0,), method=method)
    def begin(weights: Arrays, masks: Arrays, fresh: Arrays, rng: np.random.Generator,
              theta_0: Arrays) -> tuple[Arrays, Arrays]:
        """Theta_0, and the ticket's masks, of which the numbers of weights count."""
        return theta_0, masks


_training("edge_popup", "edge-popup, weights untrained")
_training("bernoulli", "supermask, weights untrained")
_training("biprop", "binary weights, untrained")
_training("gradual", "gradual magnitude pruning")
_training("set", "SET")
_training("rigl", "RigL")
