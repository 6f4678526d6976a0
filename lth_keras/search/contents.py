"""Finds all variables and optimizers that a model holds, wherever they are.

Keras lists a model's weights and knows one optimizer.  A user's model may hold more: the two
optimizers of a GAN, a teacher model's, the states of a recurrent layer, an average of its weights,
a counter in a closure.  Training changes all of them, so all must be rewound and saved.
"""

import collections
import dataclasses
import functools
import types
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Held:
    """An object that a model holds.

    Attributes:
      path: the attributes that lead to it, such as "d_opt" or "lstm.cell.states[0]".
      value: the object.
      owners: the objects that lead to it, from the model to the one that holds it; no containers.
      kinds: word -> the classes of this Keras that are a holder of that kind.
    """

    path: str
    value: Any
    owners: tuple[Any, ...]
    kinds: dict[str, tuple[type, ...]] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        """The kind of its holder: "optimizer", "seed", "loss", "metric", "state" or "variable"."""
        # The nearest holder counts: a metric inside a layer inside an RNN is a metric.
        for owner in reversed(self.owners):
            for kind, classes in self.kinds.items():
                if isinstance(owner, classes):
                    return kind
        return "variable"


@dataclasses.dataclass(frozen=True)
class Contents:
    """What models of one Keras may hold, and how it is found.

    Attributes:
      variables: the classes of variables.
      kinds: word -> the classes that are a holder of that kind: "optimizer", "seed", "metric",
        "loss", "state".
      entered: further classes whose objects are searched, such as layers.
      foreign: top-level packages of which other objects are not searched: they are large, as graphs
        and data frames are, and hold nothing that training changes.
      entered_names: names of classes of those packages that are searched all the same.
      passed_by: attributes that are not followed: they lead into graphs, or to objects that are
        found elsewhere or do not belong to the model.
      parts: the named layers of a Sequential or functional model; nothing for another object.
    """

    variables: tuple[type, ...]
    kinds: dict[str, tuple[type, ...]]
    entered: tuple[type, ...]
    foreign: Collection[str]
    entered_names: Collection[str]
    passed_by: Collection[str]
    parts: Callable[[Any], Iterable[tuple[str, Any]]]

    def of(self, model: Any) -> Iterator[Held]:
        """Yields every variable and optimizer that a model holds, each once, by its shortest path.

        Args:
          model: the model.  Its attributes, lists, tuples, dicts, functions and other objects are
            searched to any depth.

        Returns:
          The variables, including those of optimizers, and the optimizers.
        """
        # Breadth first, so that the path in messages is the shortest, and without recursion, since
        # lists of objects may be linked deeper than Python's limit.
        seen = {id(model)}
        # By classes, of which there are few: whether their objects are searched.
        entered: dict[tuple[type, type], bool] = {}
        waiting: collections.deque[Held] = collections.deque([Held("", model, (), self.kinds)])
        while waiting:
            held = waiting.popleft()
            if isinstance(held.value, self.variables):
                yield held
                continue
            if self.is_optimizer(held.value):
                yield held
            for step, value in self._parts(held.value):
                if id(value) in seen:
                    continue
                classes = type(value), value.__class__  # An object may pass for another class's.
                if classes not in entered:
                    entered[classes] = self._is_entered(value)
                if entered[classes]:
                    seen.add(id(value))
                    owners = held.owners if isinstance(held.value, (list, tuple, dict)) \
                        else (*held.owners, held.value)
                    waiting.append(Held((held.path + step).lstrip("."), value, owners, self.kinds))

    def is_optimizer(self, value: Any) -> bool:
        """Whether an object is an optimizer of this Keras."""
        return isinstance(value, self.kinds["optimizer"])

    def _is_entered(self, value: Any) -> bool:
        """Whether an object is searched: whether it may lead to a variable or an optimizer."""
        if isinstance(value, (*self.variables, list, tuple, dict, set, functools.partial,
                              types.FunctionType, types.MethodType, *self.entered)):
            return True
        if isinstance(value, (str, bytes, int, float, bool, type(None), type, types.ModuleType)):
            return False
        return type(value).__module__.split(".")[0] not in self.foreign \
            or type(value).__name__ in self.entered_names

    def _parts(self, value: Any) -> Iterator[tuple[str, Any]]:
        # The objects that an object holds, each with the step of the path that leads to it.
        if isinstance(value, dict):
            yield from ((f"[{key!r}]", item) for key, item in list(value.items()))
        elif isinstance(value, (list, tuple, set)):
            yield from ((f"[{place}]", item) for place, item in enumerate(list(value)))
        elif isinstance(value, functools.partial):
            yield from ((".arguments", item) for item in (value.func, *value.args,
                                                          *value.keywords.values()))
        elif isinstance(value, types.MethodType):
            yield from ((".function", value.__func__), (".self", value.__self__))
        elif isinstance(value, types.FunctionType):
            yield from _closure(value)
        else:
            # By the names of its layers rather than those of Keras' private lists.
            yield from ((f".{name}", layer) for name, layer in self.parts(value))
            yield from self._attributes(value)

    def _attributes(self, value: Any) -> Iterator[tuple[str, Any]]:
        found = getattr(value, "__dict__", {})
        for name, item in list(found.items()):
            if name not in self.passed_by:
                yield f".{name}", item
        # Classes with __slots__ have attributes outside of __dict__.
        for kind in type(value).__mro__:
            for name in getattr(kind, "__slots__", ()) if isinstance(
                    getattr(kind, "__slots__", ()), (tuple, list)) else ():
                item = getattr(value, name, None)
                if item is not None and name not in found:
                    yield f".{name}", item


def _closure(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # The variable is not assigned yet.
            continue
