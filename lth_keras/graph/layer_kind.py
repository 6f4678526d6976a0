"""The protocol between a model's graph and a Keras: `LayerKind`, and what it describes."""

import abc
import dataclasses
from typing import Any

from lth_keras.core.masks import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One call in the graph of a model: of a layer, or of an operation of Keras 3.

    Attributes:
      layer: what is called, without a pruning wrapper.
      args, kwargs: what it is called with, symbolic tensors and anything else.
      inputs: the tensors among them.
      outputs: the tensors that it returns.
      is_input: whether it is an input of the model.
      masked: whether an input has a mask, such as that of an Embedding.
    """

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[Any]
    outputs: list[Any]
    is_input: bool
    masked: bool


class LayerKind(abc.ABC):
    """The layers of one Keras.

    Attributes:
      keras: the package.
      tree: its functions of nested structures, `flatten`, `map_structure`, `pack_sequence_as`.
      elementwise: its activations that work on each element separately.
      obeys_false: whether a call with training=False stays one while the model is trained.
      frozen_as_wholes: whether nothing trains within a model that is not trainable, whatever its
        layers say.
    """

    keras: Any
    tree: Any
    elementwise: frozenset[Any]
    obeys_false: bool
    frozen_as_wholes: bool

    @abc.abstractmethod
    def is_graph(self, model: Any) -> bool:
        """Whether it is a Sequential or functional model."""

    @abc.abstractmethod
    def has_own_call(self, model: Any) -> bool:
        """Whether the class of a Sequential or functional model has a call() of its own."""

    @abc.abstractmethod
    def structure(self, model: Any) -> tuple[Any, Any]:
        """The symbolic inputs and outputs of a Sequential or functional model, as it has them."""

    @abc.abstractmethod
    def nodes(self, model: Any) -> list[Node]:
        """The calls that an output of a model depends on, each after those that it reads."""

    def called_in(self, outer: Node, node: Node) -> Node:
        """A call within a model as it is once that model's own call is no more.

        Args:
          outer: the call of the model.
          node: a call within it.
        """
        return node

    @abc.abstractmethod
    def config(self, layer: Any) -> dict[str, Any]:
        """The arguments that a layer was made with, without the shape of its input."""

    @abc.abstractmethod
    def assign(self, variable: Any, value: Array) -> None:
        """Gives a variable a value, cast to its type."""

    @abc.abstractmethod
    def known_as(self, layer: Any) -> str:
        """The name of a layer's class if it is Keras' own, "ops.Add" of an operation; else ""."""

    @abc.abstractmethod
    def held(self, layer: Any, weight: str) -> Any:
        """The floating-point variable that a layer's own attribute holds; None if there is none."""

    @abc.abstractmethod
    def array(self, variable: Any) -> Array:
        """The value of a variable or tensor."""

    @abc.abstractmethod
    def tensor(self, values: Array) -> Any:
        """An array as a tensor of the backend, float64 where there is one."""

    @abc.abstractmethod
    def infer(self, model: Any, inputs: Any) -> list[Array]:
        """The outputs of a model of a list of them, in inference mode; nothing of it changes."""

    def keep_penalty(self, layer: Any, made: Any) -> None:
        """Gives a layer that was made from another's config the penalty of what that gives.

        tf_keras leaves the activity_regularizer of most layers out of their configs.
        """
        if getattr(layer, "activity_regularizer", None) and not made.activity_regularizer:
            made.activity_regularizer = layer.activity_regularizer

    def variable(self, layer: Any, weight: str) -> Any:
        """The floating-point variable that holds a weight of a layer; None if there is none.

        Args:
          layer: a layer.
          weight: tf_keras' name of the weight, such as "depthwise_kernel"; "cell.kernel" of one in
            a layer within the layer.
        """
        *inner, name = weight.split(".")
        for attribute in inner:
            layer = getattr(layer, attribute, None)
        return None if layer is None else self.held(layer, name)

    def weight(self, layer: Any, name: str) -> "Array | None":
        """A weight of a layer by tf_keras' name of it; None if the layer has none."""
        found = self.variable(layer, name)
        return None if found is None else self.array(found)
