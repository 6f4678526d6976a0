"""Checks of what must hold while a search runs: nested masks, pruned weights at zero, rewinding.

A check that fails means a bug in this package, or other code that writes into pruned weights.  In
both cases the search stops instead of returning a wrong ticket.
"""

from collections.abc import Mapping

import numpy as np

from lth_keras.core.masks import Array, Arrays, revived
from lth_keras.errors import InvariantError


def nested(masks: Arrays, before: Arrays) -> None:
    """Checks that every weight kept now was kept before.

    Raises:
      InvariantError: if a pruned weight is kept again; the message names it and counts.

    Example:
      >>> nested({"a": np.array([0, 1])}, before={"a": np.array([1, 1])})
    """
    for name, count in revived(masks, before).items():
        raise InvariantError(f"Masks must be nested. Received: {count} of {before[name].size} "
                             f"weights of {name!r} kept again after they were pruned.")


def pruned_are_zero(weights: Arrays, masks: Arrays) -> None:
    """Checks that every pruned weight is exactly zero.

    Raises:
      InvariantError: if one is not, or is NaN; the message names it and counts.

    Example:
      >>> pruned_are_zero({"a": np.array([0.0, 2.0])}, {"a": np.array([0, 1])})
    """
    for name, mask in masks.items():
        pruned = weights[name][mask == 0]
        count = int(np.count_nonzero(pruned != 0))
        if count:
            raise InvariantError(f"Pruned weights must be exactly zero. Received: {count} of "
                                 f"{pruned.size} pruned weights of {name!r} that are not.")


def slots_are_fresh(slots: Mapping[tuple[str, str], Array], fresh: Mapping[tuple[str, str], float],
                    masks: Arrays) -> None:
    """An optimizer has nothing on record of pruned weights, since they get no gradient.

    Args:
      slots: (weight name, slot name) -> array of the weight's shape, such as a moment.
      fresh: the same -> the value for a weight that has never moved.
      masks: weight name -> 0/1 array.

    Raises:
      InvariantError: if a pruned weight's slot has another value.
    """
    for (name, slot), values in slots.items():
        pruned = values[masks[name] == 0]
        count = int(np.count_nonzero(moved(pruned, fresh[name, slot])))
        if count:
            raise InvariantError(
                f"Pruned weights must get no gradient. Received: {count} of {pruned.size} pruned "
                f"weights of {name!r} of which the optimizer's {slot!r} has moved. Run lth.verify "
                "on the model, which names what reads the weight without its mask; a train_step of "
                "its own reads self.dense.kernel masked, and self.trainable_weights as they are.")


def moved(slots: Array, fresh: float) -> Array:
    """Returns, as bools, where an optimizer's slots differ from those of a fresh optimizer.

    Differences up to 1e-20 do not count: Adafactor adds 1e-30 to the square of every gradient, also
    if it is zero.

    Args:
      slots: array of slots.
      fresh: the value of a slot that was never updated.

    Example:
      >>> moved(np.array([0.1, 0.2], np.float32), fresh=0.1)
      array([False,  True])
    """
    return np.abs(np.asarray(slots, np.float64) - float(np.float32(fresh))) > 1e-20


def survivors_are_rewound(weights: Arrays, theta: Arrays, masks: Arrays) -> None:
    """Checks that every kept weight equals theta_k bit for bit.

    Raises:
      InvariantError: if one differs; the message names it and counts.

    Example:
      >>> survivors_are_rewound({"a": np.array([0.0, 2.0])}, {"a": np.array([1.0, 2.0])},
      ...                       {"a": np.array([0, 1])})
    """
    for name, mask in masks.items():
        now, then = weights[name][mask != 0], theta[name][mask != 0]
        if now.tobytes() != then.tobytes():
            # Bytes are compared, since 0.0 == -0.0 and NaN != NaN.
            differ = now.view(np.uint8) != then.view(np.uint8)
            count = int(differ.reshape(now.size, -1).any(axis=1).sum())
            raise InvariantError(f"Survivors must equal theta_k bit for bit. Received: {count} "
                                 f"of {now.size} kept weights of {name!r} that differ.")
