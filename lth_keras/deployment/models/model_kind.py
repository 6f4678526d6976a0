"""The protocol between an export and a Keras: `ModelKind`, and what it describes a model with."""

import abc
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.deployment.models.optimizer_variables import OptimizerState
from lth_keras.graph.layer_kind import LayerKind


@dataclasses.dataclass(frozen=True)
class Spec:
    """The shape and type of an input, for any number of examples.

    Attributes:
      shape: the lengths of its axes, of which the first is that of the examples; None for any.
      dtype: the name of its type, such as "float32".
      name: the name of its tensor in the model.

    Example:
      >>> Spec((None, 4), "bfloat16").floating, Spec((None, 4), "int32").floating
      (True, False)
      >>> np.array(["a", "bc"]).astype(Spec((None,), "string").numpy_type)
      array(['a', 'bc'], dtype='<U2')
    """

    shape: tuple["int | None", ...]
    dtype: str
    name: str = ""

    @property
    def floating(self) -> bool:
        """Whether it holds floating-point numbers."""
        return "float" in self.dtype

    @property
    def numpy_type(self) -> "np.dtype[Any]":
        """Its type in NumPy."""
        return np.dtype(str if self.dtype == "string" else self.dtype)


class ModelKind(LayerKind):
    """The models of one Keras.

    Attributes:
      title: its name for messages.
      runtime: the runtime that loads its .keras files (`deployment.measuring`).
      unrolls: whether TF Lite has no kernel for its loops, so that recurrent layers are unrolled.
    """

    title: str
    runtime: str
    unrolls: bool

    @property
    @abc.abstractmethod
    def backend(self) -> str:
        """What computes: "tensorflow", "jax" or "torch"."""

    # What a model is.

    @abc.abstractmethod
    def check(self, model: Any) -> None:
        """Checks that an object is a model that can be exported.

        Raises:
          LotteryError: if it is not.
        """

    def versions(self) -> dict[str, str]:
        """The versions of packages beside those that every result names."""
        return {}

    def loading(self, model: Any) -> dict[str, Any]:
        """What the runtime of its .keras files needs to be told (`measuring.measure`)."""
        return {}

    def layers(self, model: Any) -> list[Any]:
        """The model and all layers in it, those within layers too."""
        return list(model._flatten_layers())

    @abc.abstractmethod
    def masks(self, model: Any) -> Arrays:
        """The masks of a pruned model by the names of its weights; {} of one without."""

    @abc.abstractmethod
    def is_wrapped(self, model: Any) -> bool:
        """Whether layers are in pruning wrappers."""

    @abc.abstractmethod
    def bare(self, model: Any) -> Any:
        """The model without pruning wrappers."""

    @abc.abstractmethod
    def named_weights(self, model: Any) -> dict[str, Any]:
        """Every weight of a model's network by name: what a ticket holds."""

    @abc.abstractmethod
    def optimizer_state(self, model: Any) -> "OptimizerState | None":
        """What the optimizer of a compiled model keeps, built if need be; None if not compiled."""

    # What it takes, returns and computes.

    @abc.abstractmethod
    def is_called(self, model: Any) -> bool:
        """Whether it is known what the model takes and returns."""

    @abc.abstractmethod
    def call(self, model: Any, example: Any) -> None:
        """Calls a model on an example, arrays in the structure that it takes."""

    @abc.abstractmethod
    def ends(self, model: Any) -> "tuple[Any, list[Spec], Any] | None":
        """What a model takes and returns: names in its structure, specs, names in its structure.

        Returns:
          Names in place of tensors; the specs are in the order of `flatten`. None if the model was
          never called.
        """

    @abc.abstractmethod
    def predict(self, model: Any, given: Any, batch: int) -> list[Any]:
        """The outputs for all examples, in the order of `flatten`, computed in batches."""

    @abc.abstractmethod
    def loss(self, loss: Any, targets: Array, outputs: Array) -> Array:
        """The loss of outputs, as `fit` computes it."""

    # In float32, and copies.

    @abc.abstractmethod
    def precision(self, model: Any) -> "str | None":
        """The coarsest precision other than float32 that a layer computes in; None if none does."""

    @abc.abstractmethod
    def in_float32(self, model: Any) -> contextlib.AbstractContextManager[Any]:
        """Provides a model of the same weights that computes in float32, for a `with` block."""

    def copy(self, model: Any) -> Any:
        """A copy that is not compiled; a subclassed model itself, which Keras cannot copy."""
        if not self.is_graph(model):
            return model
        copy = self.keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        given = {each.name: each for each in self.layers(model)}
        for each in self.layers(copy):
            old = given.get(each.name, each)
            if self.is_graph(each):  # Its layers have their own.
                each._trainable = old.trainable
            self.keep_penalty(old, each)
        return copy

    # What a file by TensorFlow needs.

    @abc.abstractmethod
    def stored(self, model: Any) -> list[Any]:
        """The `tf.Variable`s that hold the weights of a model that TensorFlow computes."""

    @abc.abstractmethod
    def loops(self, model: Any) -> list[Any]:
        """The recurrent layers that are computed in a loop."""

    @abc.abstractmethod
    def unrolled(self, model: Any) -> contextlib.AbstractContextManager[None]:
        """Computes recurrent layers step after step, without a loop, while a `with` block runs."""

    @abc.abstractmethod
    def token_inputs(self, model: Any) -> list[str]:
        """The inputs of floats that go to embeddings alone: whole numbers, by Keras' default."""

    # Its graph, layers and weights.

    @abc.abstractmethod
    def gather(self, tensor: Any, positions: list[int], name: str, like: Any) -> Any:
        """Selects features of a symbolic tensor by their positions on its last axis.

        Args:
          tensor: the tensor.
          positions: the indices of the features.
          name: a name for a layer that does so.
          like: the layer that reads the result.
        """

    @abc.abstractmethod
    def gather_layer(self, positions: list[int], name: str, like: Any) -> Any:
        """A layer that does what `gather` does; None if this Keras has none that it can load."""



@contextlib.contextmanager
def attributes_set(objects: Sequence[Any], values: dict[str, Any]) -> Iterator[None]:
    """Sets those of the attributes that each object has, past what watches them, for a block."""
    before = [{name: getattr(each, name) for name in values if hasattr(each, name)}
              for each in objects]
    try:
        for each, held in zip(objects, before, strict=True):
            vars(each).update({name: values[name] for name in held})
        yield
    finally:
        for each, held in zip(objects, before, strict=True):
            vars(each).update(held)


def flatten(form: Any) -> list[Any]:
    """The leaves of nested lists, tuples and dicts; those of a dict in the order of its keys.

    Example:
      >>> flatten([{"b": 1, "a": 2}, 3])
      [2, 1, 3]
    """
    return [leaf for _, leaf in paths(form)]


def paths(form: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The leaves of nested lists, tuples and dicts, each after its keys and indices.

    Example:
      >>> list(paths({"a": [5, 6]}))
      [(('a', 0), 5), (('a', 1), 6)]
    """
    if isinstance(form, dict):
        items: Any = [(key, form[key]) for key in sorted(form)]
    elif isinstance(form, (list, tuple)):
        items = enumerate(form)
    else:
        yield path, form
        return
    for key, part in items:
        yield from paths(part, (*path, key))


def packed(form: Any, leaves: Sequence[Any]) -> Any:
    """The same structure with other leaves, given in the order of `flatten`; lists for tuples.

    Example:
      >>> packed([{"b": 1, "a": 2}, 3], "xyz")
      [{'b': 'y', 'a': 'x'}, 'z']
    """
    rest = iter(leaves)

    def filled(part: Any) -> Any:
        if isinstance(part, dict):
            made = {key: filled(part[key]) for key in sorted(part)}
            return {key: made[key] for key in part}
        if isinstance(part, (list, tuple)):
            return [filled(each) for each in part]
        return next(rest)
    return filled(form)
