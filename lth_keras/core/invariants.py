"""What must hold while a search runs.  Each check names the weight and counts.

A check that fails means a defect in this package, or code outside it that writes into
pruned weights; either way the search stops rather than give a false ticket.
"""

import numpy as np

from lth_keras.core.masks import Arrays, revived
from lth_keras.errors import InvariantError


def nested(masks: Arrays, before: Arrays) -> None:
    """Pruning only removes: every weight kept now was kept before.

    Raises:
      InvariantError: if a pruned weight came back.
    """
    for name, count in revived(masks, before).items():
        raise InvariantError(f"Masks must be nested. Received: {count} of {before[name].size} "
                             f"weights of {name!r} kept again after they were pruned.")


def pruned_are_zero(weights: Arrays, masks: Arrays) -> None:
    """Every pruned weight is exactly zero.

    Raises:
      InvariantError: if one is not (NaN included).
    """
    for name, mask in masks.items():
        pruned = weights[name][mask == 0]
        count = int(np.count_nonzero(pruned != 0))
        if count:
            raise InvariantError(f"Pruned weights must be exactly zero. Received: {count} of "
                                 f"{pruned.size} pruned weights of {name!r} that are not.")


def survivors_are_rewound(weights: Arrays, theta: Arrays, masks: Arrays) -> None:
    """Every kept weight has the bits of theta_k.

    Raises:
      InvariantError: if one has not.
    """
    for name, mask in masks.items():
        now, then = weights[name][mask != 0], theta[name][mask != 0]
        if now.tobytes() != then.tobytes():
            differ = now.view(np.uint8) != then.view(np.uint8)  # -0.0 is not 0.0 here.
            count = int(differ.reshape(now.size, -1).any(axis=1).sum())
            raise InvariantError(f"Survivors must equal theta_k bit for bit. Received: {count} "
                                 f"of {now.size} kept weights of {name!r} that differ.")
