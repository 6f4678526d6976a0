"""Where the weights of a compacted model lie in the model that it was made from."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.deployment.compaction import layer_parts
from lth_keras.deployment.compaction.channels import Analysis
from lth_keras.deployment.models.model_kind import ModelKind
from lth_keras.errors import TicketError
from lth_keras.graph import rebuild
from lth_keras.graph.model_graph import Graph
from lth_keras.graph.operations import Flags, Linear
from lth_keras.graph.rebuild import Part


@dataclasses.dataclass(frozen=True, eq=False)
class Places:
    """What is left of each weight.

    Attributes:
      names: the name of each weight of the whole model -> its name in the smaller one, where the
        layers of models within the model are the model's own; "" if it is gone altogether.
      shapes: the name of each weight of the smaller model -> its shape and number type.
      kept: the name of a weight of the whole model -> axis -> which of its indices are left.

    Example:
      >>> places = Places({"inner/a": "a"}, {"a": ((1,), "float32"), "b": ((2,), "float32")},
      ...                 {"inner/a": {0: np.array([False, True])}})
      >>> {name: value.tolist() for name, value in places.of({"inner/a": np.array([3, 4])}).items()}
      {'a': [4]}
    """

    names: Mapping[str, str]
    shapes: Mapping[str, tuple[tuple[int, ...], str]]
    kept: Mapping[str, Mapping[int, Flags]]

    @classmethod
    def between(cls, kind: ModelKind, models: tuple[Any, Any], read: Graph,
                parts: Sequence[Part], found: Analysis) -> "Places":
        """Finds the places of a compaction.

        Args:
          kind: what knows the models' Keras.
          models: the whole model and the smaller one.
          read: the graph of the whole model.
          parts: the replacement of each node's layer.
          found: which channels are kept.
        """
        whole, small = (kind.named_weights(model) for model in models)
        named = {id(variable): name for name, variable in whole.items()}
        named_small = {id(variable): name for name, variable in small.items()}
        # Layers that stay as they are hold the same variables.
        names = {name: named_small.get(key, "") for key, name in named.items()}
        kept: dict[str, dict[int, Flags]] = {}
        for node, operations, part in zip(read.nodes, read.calls, parts, strict=True):
            for operation in operations:
                left = list(found.kept)
                if part.before is not None and isinstance(operation, Linear):
                    left[operation.source] = layer_parts.read_inputs(operation, found)
                for held in getattr(operation, "holds", ()):
                    name = named.get(id(kind.variable(node.layer, held.weight)))
                    new = named_small.get(id(kind.variable(part.layer, held.weight)))
                    if name is None or new is None:
                        continue
                    names[name] = new
                    kept.setdefault(name, {})[held.axis] = rebuild.there(held, left)
        return cls(names, {name: (tuple(variable.shape), str(kind.array(variable).dtype))
                           for name, variable in small.items()}, kept)

    def of(self, arrays: Arrays) -> dict[str, Array]:
        """What is left of arrays of the whole model's weights, by the smaller model's names.

        Args:
          arrays: weight name -> array, for some or all weights of the whole model.

        Raises:
          TicketError: if a name or shape is not that of a weight of the whole model.
        """
        found: dict[str, Array] = {}
        for name, value in arrays.items():
            if name not in self.names:
                raise TicketError("A ticket must have the weights of the model that was compacted. "
                                  f"Received: {name!r}, which that model has not.")
            left: Array = value
            for axis, there in self.kept.get(name, {}).items():
                if left.ndim <= axis or left.shape[axis] != len(there):
                    raise TicketError("A ticket must have the weights of the model that was "
                                      f"compacted. Received: {name!r} of shape {value.shape}.")
                left = np.compress(there, left, axis)
            found[self.names[name]] = left
        found.pop("", None)  # What nothing of the model's outputs depends on.
        return found

    def all_of(self, arrays: Arrays) -> dict[str, Array]:
        """The same for every weight of the smaller model, zeros for biases that were created.

        Args:
          arrays: weight name -> array, for every weight of the whole model.
        """
        found = self.of(arrays)
        return {name: found[name] if name in found else np.zeros(*shape)
                for name, shape in self.shapes.items()}
