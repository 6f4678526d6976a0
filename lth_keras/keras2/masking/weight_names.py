"""The weights of tf_keras models by name, and those of them that have a mask."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, TYPE_CHECKING

import tensorflow as tf
import tf_keras as keras
from tf_keras.src.utils.generic_utils import to_snake_case

from lth_keras.core.fractions import LayerNames, Prunable
from lth_keras.core.structures.structure import Structure
from lth_keras.core.structures.words import of_arguments
from lth_keras.errors import LotteryError
from lth_keras.keras2.inspection.model_calls import held_for_training
from lth_keras.keras2.inspection.tfmot_parts import pruning_wrapper
from lth_keras.search.layer_tree import axes_of, LayerTree, TRACKED_BY_TENSORFLOW

if TYPE_CHECKING:
    class Wrapper(keras.layers.Wrapper):
        """tfmot's wrapper, which has no annotations of its own."""

        layer: Any
        pruning_vars: list[tuple[tf.Variable, tf.Variable, tf.Variable]]
        pruning_step: tf.Variable
        block_size: tuple[int, int]
        block_pooling_type: str
        sparsity_m_by_n: tuple[int, int] | None
else:
    Wrapper = pruning_wrapper.PruneLowMagnitude

@dataclasses.dataclass(frozen=True)
class Masked:
    """A prunable weight of a wrapped model, with its mask.

    Attributes:
      prunable: the weight's name and layer.
      weight: the weight itself.
      mask: the mask, 0 or 1, with the weight's shape.
      threshold: the smallest magnitude kept, for tfmot's summaries.
      wrapper: the wrapper that holds the mask.
    """

    prunable: Prunable
    weight: tf.Variable
    mask: tf.Variable
    threshold: tf.Variable
    wrapper: Wrapper

    @property
    def structure(self) -> Structure:
        """The structure in which the weight is pruned, of our wrapper or tfmot's."""
        wrapper = self.wrapper
        found = vars(wrapper).get("structure")
        return found if isinstance(found, Structure) else of_arguments(
            wrapper.block_size, wrapper.block_pooling_type, wrapper.sparsity_m_by_n)


def is_graph(layer: Any) -> bool:
    """Returns whether a layer is a Sequential or functional model.

    Example:
      >>> is_graph(keras.Sequential()), is_graph(keras.layers.Dense(1))
      (True, False)
    """
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and bool(layer._is_graph_network))


def _unwrapped(layer: Any) -> Any:
    return layer.layer if isinstance(layer, Wrapper) else layer


# Hidden are attributes in which Keras keeps second references to objects that others hold.
TREE = LayerTree(
    "tf_keras", keras.layers.Layer, keras.Model, keras.metrics.Metric, keras.layers.Wrapper,
    tf.Variable, is_graph, re.compile(
        rf"{TRACKED_BY_TENSORFLOW}|_(non_)?trainable_weights|_inbound_nodes.*|_outbound_nodes.*"
        r"|_metrics|_losses|_callable_losses|_input_layers|_output_layers"),
    to_snake_case, _unwrapped)
slots, parts, named_layers, layer_names = (
    TREE.slots, TREE.parts, TREE.named_layers, TREE.layer_names)


def stored_in(variable: Any) -> Any:
    """Returns the variable that holds a weight: under mixed precision it is seen through a cast."""
    return getattr(variable, "_variable", variable) if hasattr(variable, "true_dtype") else variable


def variables_among(listed: Iterable[Any]) -> list[tf.Variable]:
    """Those of a layer's weights or variables that are one: Keras lists vocabularies too.

    Example:
      >>> lookup = keras.layers.IntegerLookup()
      >>> lookup.adapt([3, 5])
      >>> dense = keras.layers.Dense(1)
      >>> dense.build((None, 2))
      >>> len(lookup.weights), len(variables_among([*lookup.weights, *dense.weights]))
      (1, 2)
    """
    return [each for each in listed if isinstance(each, tf.Variable)]


def check_keras2(model: Any) -> None:
    """Checks that an object is a model or layer of tf_keras.

    Raises:
      LotteryError: if it is not, such as a model of Keras 3, which is another package.
    """
    if not isinstance(model, keras.layers.Layer):
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        is_keras3 = any(base.__module__.split(".")[0] == "keras" for base in type(model).__mro__)
        raise LotteryError(
            "A model or layer of tf_keras (Keras 2) is needed. Received: "
            + (f"{kind}, of Keras 3. A search prunes that as it is, without wrapping: model.fit("
               "..., callbacks=[lth.LotteryTicketCallback(...)]). For all else, build the same "
               "network with `import tf_keras as keras` and give it the trained weights, "
               "model.set_weights(yours.get_weights()), or the ticket to train anew, "
               "lottery.ticket.apply(model)." if is_keras3 else
               f"{kind}. Build a model with `import tf_keras as keras`."))


def is_built(model: Any) -> bool:
    """Whether a model has made its weights.

    One that has no call, such as a GAN that is trained by its train_step alone, is never built by
    Keras: it is where its parts are.
    """
    if is_graph(model) or model.built or not isinstance(model, keras.Model):
        return bool(model.built)
    held = [layer for _, layer in parts(model)]
    return type(model).call is keras.Model.call and bool(held) and all(map(is_built, held))


def wrappers(model: Any) -> list[Wrapper]:
    """The pruning wrappers in a model, tfmot's own included, each once."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, Wrapper)]


def named_weights(model: Any) -> dict[str, tf.Variable]:
    """Every weight of a model's network by name: what a ticket holds.

    Masks and the wrappers' counters are not weights, nor is what the model holds for its training
    alone: see `held_for_training`.
    """
    held = held_for_training(model)
    return {name: variable for name, variable in named_variables(model).items()
            if id(variable) not in held}


def named_variables(model: Any) -> dict[str, tf.Variable]:
    """What Keras takes for a model's weights, by name, without masks and the wrappers' counters."""
    return TREE.named_weights(model, (variable for wrapper in wrappers(model)
                                      for variable in wrapper._non_trainable_weights))


def masked(model: Any) -> dict[str, Masked]:
    """Returns the prunable weights of a wrapped model by name, in the order of its layers.

    Example:
      >>> from lth_keras import prune_low_magnitude
      >>> model = prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((2,)), keras.layers.Dense(3, name="fc")]))
      >>> list(masked(model))
      ['fc/kernel']
    """
    outputs = {id(layer) for layer in output_wrappers(model)}
    found = {}
    names = {id(variable): name for name, variable in named_weights(model).items()}
    layers = layer_names(model)
    axes = {id(slot.variable): axes_of(slot) for slot in slots(model)}
    for wrapper in wrappers(model):
        for weight, mask, threshold in wrapper.pruning_vars:
            name = names[id(weight)]
            inner = wrapper.layer
            called = layers.get(id(inner), LayerNames(inner.name, inner.name))
            prunable = Prunable.of(name, called, type(inner).__name__, id(wrapper) in outputs,
                                   axes.get(id(weight), ""))
            found[name] = Masked(prunable, weight, mask, threshold, wrapper)
    return {name: found[name] for name in names.values() if name in found}


def output_wrappers(model: Any) -> list[Wrapper]:
    """Returns the wrappers nearest to the outputs of a Sequential or functional model."""
    # From each output back through layers without kernels, such as activations, to the first with
    # a kernel: that is the output layer, for which the papers prune a smaller fraction.
    if not is_graph(model) or not model.built:
        return []
    inputs: dict[int, list[Any]] = {}
    for nodes in model._nodes_by_depth.values():  # A shared layer has nodes elsewhere too.
        for node in nodes:
            inputs.setdefault(id(node.layer), []).extend(node.keras_inputs)
    found: dict[int, Wrapper] = {}
    seen: set[int] = set()
    waiting = list(tf.nest.flatten(model.outputs))
    while waiting:
        layer = waiting.pop()._keras_history.layer
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        inside = [layer] if isinstance(layer, Wrapper) else output_wrappers(layer)
        found.update((id(wrapper), wrapper) for wrapper in inside)
        # A layer with a kernel that is not wrapped is the output layer too; the search ends there.
        if not inside and not any(
                len(weight.shape) > 1 for weight in variables_among(layer.weights)):
            waiting += inputs[id(layer)]
    return list(found.values())


def replicas_own(model: Any) -> list[tf.Variable]:
    """Returns the variables of which each replica has its own value, such as batch-norm statistics.

    Reading such a weight gives the mean over the replicas, but each replica validates with its
    own value.  Without a tf.distribute strategy, or with one replica, the result is empty.
    """
    return [own for variable in named_variables(model).values()
            if variable.synchronization == tf.VariableSynchronization.ON_READ
            and len(getattr(variable, "values", ())) > 1 for own in variable.values]
