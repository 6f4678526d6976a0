"""The variables of the optimizer that a model is compiled with, by the names of its weights."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, eq=False)
class OptimizerState:
    """The variables of the optimizer that a model is compiled with.

    Attributes:
      classes: the names of the optimizer's class, and of those that it wraps.
      slots: kind of slot, such as "Adam._momentums" -> weight name -> variable of its shape.
      others: all other variables, in their order: iterations, learning rate, loss scale.
      mixing: the classes that step an element of a weight by others too, as Adafactor does.
    """

    classes: list[str]
    slots: dict[str, dict[str, Any]]
    others: list[Any]
    mixing: list[str]

    @classmethod
    def of(cls, parts: Sequence[Any], slots: dict[str, dict[str, Any]], variables: Iterable[Any],
           mixing: Iterable[Any]) -> "OptimizerState":
        """The state of an optimizer.

        Args:
          parts: the optimizer, and those that it wraps.
          slots: as in the attribute.
          variables: all variables of the parts, slots among them or not.
          mixing: those of the parts that mix elements.
        """
        own = {id(slot) for by_weight in slots.values() for slot in by_weight.values()}
        others = {id(variable): variable for variable in variables if id(variable) not in own}
        return cls([type(part).__name__ for part in parts], slots, list(others.values()),
                   [type(part).__name__ for part in mixing])


def slots_by_kind(optimizer: Any, weights: Mapping["str | None", Any],
                  slots_of: Callable[[Any, Any], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What an optimizer keeps for each weight, as in `OptimizerState.slots`.

    Args:
      optimizer: an optimizer that wraps no other.
      weights: name -> variable; None for one that is no weight of the network.
      slots_of: returns the slots of a weight by their kind.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, weight in weights.items():
        for kind, slot in (slots_of(optimizer, weight) if name else {}).items():
            found.setdefault(f"{type(optimizer).__name__}.{kind}", {})[str(name)] = slot
    return found
