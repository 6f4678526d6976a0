"""Carries the state of an optimizer over to the smaller model of a compaction."""

from typing import Any, Protocol

from lth_keras.core.masks import Array, Arrays
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.deployment.models.optimizer_variables import OptimizerState
from lth_keras.errors import LotteryError, TicketError


class Places(Protocol):
    """Says what is left of arrays that are of the shapes of a model's weights."""

    def of(self, arrays: Arrays) -> dict[str, Array]:
        """Weight name -> what is left of its array in the smaller model."""


def carry(model: Any, small: Any, places: Places) -> None:
    """Gives the optimizer of a smaller model the state that a model's has.

    Args:
      model: the compiled model that was compacted.
      small: the smaller model, compiled in the same way.
      places: where the weights of the smaller model lie in the other.

    Raises:
      LotteryError: see `Compacted.carry_optimizer`.
    """
    kind = kind_of(model)
    whole, own = _state(model, "The model that was compacted"), _state(small, "The smaller model")
    _check(model, whole, own)
    for slot, by_weight in whole.slots.items():
        try:
            left = places.of({name: kind.array(variable) for name, variable in by_weight.items()})
        except TicketError:
            raise LotteryError("An optimizer's state is that of the model that was compacted. "
                               f"Received: {model.name!r}, which has other weights.") from None
        # Biases that the compaction has made have slots, but none to carry: they stay fresh.
        for name, variable in own.slots[slot].items():
            if name in left:
                kind.assign(variable, left[name])
    for old, new in zip(whole.others, own.others, strict=True):
        kind.assign(new, kind.array(old))


def _state(model: Any, which: str) -> OptimizerState:
    found = kind_of(model).optimizer_state(model)
    if found is None:
        raise LotteryError(f"{which} must be compiled, so that it has an optimizer. Received: "
                           f"{model.name!r}, which is not. Call compile with the same optimizer "
                           "and settings for both.")
    return found


def _check(model: Any, whole: OptimizerState, own: OptimizerState) -> None:
    shapes = [[tuple(variable.shape) for variable in state.others] for state in (whole, own)]
    if whole.classes != own.classes or whole.slots.keys() != own.slots.keys() \
            or shapes[0] != shapes[1]:
        raise LotteryError("Both models must be compiled with the same optimizer and settings. "
                           f"Received: {_said(whole)} and, of the smaller model, {_said(own)}.")
    if whole.mixing:
        raise LotteryError("An optimizer's state is carried over by the elements of each weight, "
                           "which it must step apart. Received: "
                           f"{' and '.join(whole.mixing)} of {model.name!r}, which steps an "
                           "element by others of its weight too. Train the smaller model with a "
                           "fresh optimizer, or use one such as SGD or Adam.")


def _said(state: OptimizerState) -> str:
    kinds = sorted(slot.rpartition(".")[2].strip("_") for slot in state.slots)
    return f"{' of '.join(state.classes)} with {', '.join(kinds) or 'no slots'}"
