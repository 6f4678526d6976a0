"""Whether anything prunes a wrapped model: where nothing does, it is said, and not left to be seen.

A model that is wrapped and trained without a search stays dense, also with tfmot's callback, which
counts the steps of tfmot's own wrappers alone.
"""

import sys
from typing import Any

import tensorflow as tf

from lth_keras.errors import LotteryError
from lth_keras.keras2.inspection.tfmot_parts import pruning_callbacks

_WRITE = ("lth.LotteryTicketCallback(rounds=10, epochs_per_round=5, fraction=0.2) in model.fit("
          "callbacks=[...]), or in a loop of your own search = lth.Search(model) and, at the end "
          "of each round, search.prune_and_rewind()")


def note_pruner(model: Any) -> None:
    """Notes on a model's wrappers that something decides their masks: a search, or a ticket."""
    for wrapper in _ours(model):
        wrapper.has_pruner = True


def refuse_update_pruning_step() -> None:
    """Refuses tfmot's UpdatePruningStep on a model that nothing prunes; silent for other callers.

    To be called by what that callback reads of a wrapper as a training begins.

    Raises:
      LotteryError: if that callback reads it, no search is on its way and no weight is pruned yet.
    """
    reader = sys._getframe(2)
    if reader.f_globals.get("__name__") != pruning_callbacks.__name__:
        return
    model = reader.f_locals["self"].model
    if _never_pruned(_ours(model)):
        raise LotteryError(
            "A model that lth.prune_low_magnitude has wrapped is pruned by a search. Received: "
            f"tfmot's UpdatePruningStep for {model.name!r}, which prunes nothing in it. Write "
            f"{_WRITE}.")


def trained_unpruned(model: Any) -> str:
    """A warning, if a model was trained with wrappers of this package and nothing has pruned it.

    Args:
      model: a wrapped model.

    Returns:
      What to say; "" if there is nothing to say.
    """
    found = _ours(model)
    trained = any(constraint.has_gradient for wrapper in found
                  for constraint in wrapper._constraints.values())
    return "" if not trained or not _never_pruned(found) else (
        f"{model.name!r} was wrapped and trained, and nothing has pruned it: all its weights are "
        f"kept. To prune it, write {_WRITE}.")


def _ours(model: Any) -> list[Any]:
    return [layer for layer in model._flatten_layers() if "has_pruner" in vars(layer)]


def _never_pruned(found: list[Any]) -> bool:
    return not any(wrapper.has_pruner for wrapper in found) and all(
        bool(tf.reduce_all(mask != 0)) for wrapper in found for _, mask, _ in wrapper.pruning_vars)
