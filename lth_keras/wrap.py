"""Wrapping a model: which layers get the pruning wrapper."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import tf_keras as keras

from lth_keras import prunable
from lth_keras.errors import LotteryError
from lth_keras.prunable import Selector
from lth_keras.weights import is_graph, named_layers, slots, Wrapper
from lth_keras.wrapper import MaskedLayer

# For a layer and its name in the model: the paths to prune in it, or why there are none;
# None for a nested model whose layers are to be asked one by one.
_Choice = Callable[[Any, str], "list[str] | str | None"]


def prune_low_magnitude(model: Any, include: "Selector | Sequence[Selector]" = (),
                        exclude: "Selector | Sequence[Selector]" = ()) -> Any:
    """Wraps the layers of a model so that their weights can be pruned exactly.

    Kernels are pruned; biases, normalisation parameters, embeddings and weights of rank
    below 2 are not.  A layer with nothing to prune is left as it is.  As with tfmot, the
    new model shares its layers, and so its weights, with the one given; compile it anew.

    Args:
      model: a built tf_keras Sequential or functional model, nested models and shared
        layers included, or a single layer.
      include: names, types or functions of layers to prune that are left out by default:
        embeddings and frozen layers.  A function takes a layer and returns a bool.
      exclude: the same, for layers to leave dense.

    Returns:
      A model of the same architecture and weights, all masks at one; or the wrapped layer.

    Raises:
      LotteryError: if nothing is prunable (the message says why, layer by layer), if the
        model is not built or of a kind that cannot be wrapped, or if an entry of
        `include` or `exclude` means no layer.

    Example:
      >>> import tf_keras as keras
      >>> model = prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((4,)), keras.layers.Dense(3), keras.layers.ReLU()]))
      >>> [type(layer).__name__ for layer in model.layers]
      ['MaskedLayer', 'ReLU']

    Reference: Frankle & Carbin, ICLR 2019, section 2; Zhu & Gupta 2017 for tfmot's wrapper.
    """
    included = prunable.check_selectors(include, "include")
    excluded = prunable.check_selectors(exclude, "exclude")
    used: set[int] = set()

    def choose(layer: Any, name: str) -> "list[str] | str | None":
        asked = prunable.matches(layer, included)
        refused = prunable.matches(layer, excluded)
        used.update(id(selector) for selector in (*asked, *refused))
        if refused:
            return "excluded"
        if is_graph(layer):
            return None
        chosen, reasons = prunable.weights_of(layer, bool(asked))
        return [slot.path for slot in chosen] or "; ".join(reasons) or "it has no weights"

    _check_kind(model)
    wrapped = _Wrapping(choose).wrap(model) if isinstance(model, keras.Model) \
        else _wrap_layer(model, choose, bool(prunable.matches(model, included)))
    unused = [selector for selector in (*included, *excluded) if id(selector) not in used]
    if unused:
        raise LotteryError(f"include and exclude must name layers of the model. Received: "
                           f"{unused}. Layers: {', '.join(_layer_lines(model))}.")
    return wrapped


def wrap_named(model: Any, names: Collection[str]) -> Any:
    """Wraps just the weights of these names, as `lth_keras.weights` names them."""
    _check_kind(model)

    def choose(layer: Any, name: str) -> "list[str] | str | None":
        if is_graph(layer):
            return None
        return [slot.path for slot in slots(layer) if f"{name}/{slot.path}" in names] \
            or "not among the weights named"
    return _Wrapping(choose).wrap(model)


class _Wrapping:
    """One pass over a model; a layer that is used twice gets one wrapper."""

    def __init__(self, choose: _Choice):
        self._choose = choose
        self._done: dict[int, Any] = {}
        self._reasons: list[str] = []
        self._wrapped = 0
        self._users: dict[int, list[str]] = {}  # Of each weight: the layers that use it.
        self._pruned: dict[int, str] = {}

    def wrap(self, model: Any) -> Any:
        wrapped = self._model(model, "")
        for weight, name in self._pruned.items():
            if len(self._users[weight]) > 1:
                raise LotteryError("A weight that is pruned must belong to one layer. Received: "
                                   f"{name!r}, used by {' and by '.join(self._users[weight])}. "
                                   "Take these layers out with exclude=.")
        if not self._wrapped:
            raise LotteryError("Nothing in the model is prunable. Received:\n  "
                               + "\n  ".join(self._reasons) + "\nOnly trained kernels of rank 2 "
                               "or more are pruned by default; include= adds layers.")
        return wrapped

    def _model(self, model: Any, prefix: str) -> Any:
        names = {id(layer): prefix + name for name, layer in named_layers(model.layers)}

        def clone(layer: Any) -> Any:
            if id(layer) not in self._done:
                self._done[id(layer)] = self._layer(layer, names[id(layer)])
            return self._done[id(layer)]

        wrapped = keras.models.clone_model(model, clone_function=clone)
        if type(wrapped) is not type(model) and not type(model).__module__.startswith("tf_keras"):
            raise LotteryError(
                f"Wrapping would lose what {type(model).__name__} adds to a functional model, "
                f"such as its train_step. Received: {model.name!r}. Wrap the model that it is "
                "made from, or single layers with lth.prune_low_magnitude(layer).")
        return wrapped

    def _layer(self, layer: Any, name: str) -> Any:
        if any(isinstance(part, Wrapper) for part in layer._flatten_layers()) \
                and not is_graph(layer):
            self._wrapped += 1
            return layer
        if isinstance(layer, keras.layers.InputLayer):
            return keras.layers.InputLayer.from_config(layer.get_config())
        if not layer.built:
            raise LotteryError(f"The model must be built before it is wrapped. Received: layer "
                               f"{name!r} without weights yet. Start the model with "
                               "keras.layers.Input(shape), or call model.build(input_shape).")
        chosen = self._choose(layer, name)
        if chosen is None:
            return self._model(layer, f"{name}/")
        for slot in slots(layer):
            self._users.setdefault(id(slot.variable), []).append(name)
            if slot.path in chosen and not isinstance(chosen, str):
                self._pruned[id(slot.variable)] = f"{name}/{slot.path}"
        if isinstance(chosen, str):
            self._reasons.append(f"{name} ({type(layer).__name__}): {chosen}")
            return layer
        self._wrapped += 1
        return MaskedLayer(layer, chosen)


def _wrap_layer(layer: Any, choose: _Choice, asked: bool) -> Any:
    if isinstance(layer, Wrapper):
        return layer
    chosen = choose(layer, layer.name)
    if not layer.built and chosen != "excluded":
        return MaskedLayer(layer, asked=asked)
    if chosen is None or isinstance(chosen, str):
        raise LotteryError(f"Layer {layer.name!r} has no weight to prune: {chosen}.")
    return MaskedLayer(layer, chosen)


def _check_kind(model: Any) -> None:
    if isinstance(model, keras.Model) and not is_graph(model):
        raise LotteryError(
            "A model must be Sequential or functional to be wrapped whole. Received: the "
            f"subclassed model {type(model).__name__}. Wrap its layers where it makes them: "
            "self.dense = lth.prune_low_magnitude(keras.layers.Dense(10)).")
    if not isinstance(model, keras.layers.Layer):
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        raise LotteryError("A tf_keras (Keras 2) model or layer is needed: import tf_keras as "
                           f"keras. Received: {kind}.")


def _layer_lines(model: Any) -> list[str]:
    # Those that can be selected: what lies inside a layer goes with it.
    lines = []
    for layer in model.layers if is_graph(model) else [model]:
        lines.append(f"{layer.name} ({type(layer).__name__})")
        lines += _layer_lines(layer) if is_graph(layer) else []
    return lines
