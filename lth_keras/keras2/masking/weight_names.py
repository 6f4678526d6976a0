"""Names every weight of a tf_keras model in the same way whenever the model is built.

Keras numbers layers over a whole process: a model that is built twice has "dense" first and then
"dense_3".  Tickets need names that stay the same.  Here, layers with automatic names are numbered
within their model, and a weight is named by the attribute that holds it: "dense/kernel",
"block/conv2d_1/kernel", "lstm/cell/recurrent_kernel".  Pruning wrappers do not appear in names, so
a model has the same names with and without them.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any, TYPE_CHECKING

import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper
from tf_keras.src.utils.generic_utils import to_snake_case

from lth_keras.core.fractions import Prunable
from lth_keras.core.structures.structure import Structure
from lth_keras.core.structures.words import of_arguments
from lth_keras.errors import LotteryError
from lth_keras.keras2.inspection.model_calls import held_for_training

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

# Attributes in which Keras keeps second references to objects that other attributes hold.
HIDDEN = re.compile(r"_self_.*|_(non_)?trainable_weights|_inbound_nodes.*|_outbound_nodes.*"
                    r"|_metrics|_losses|_callable_losses|_input_layers|_output_layers")


@dataclasses.dataclass(frozen=True)
class Slot:
    """A weight, and the attribute that holds it.

    Attributes:
      path: the weight's name, relative to the layer that was searched, such as "cell/kernel".
      owner: the layer that has the attribute.
      attribute: the name of the attribute.
      variable: the weight.

    Example:
      >>> dense = keras.layers.Dense(3)
      >>> dense.build((None, 2))
      >>> [(slot.path, slot.attribute) for slot in slots(dense)]
      [('kernel', 'kernel'), ('bias', 'bias')]
    """

    path: str
    owner: Any
    attribute: str
    variable: tf.Variable


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


def stored_in(variable: Any) -> Any:
    """Returns the variable that holds a weight: under mixed precision it is seen through a cast."""
    return getattr(variable, "_variable", variable) if hasattr(variable, "true_dtype") else variable


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
            + (f"{kind}, of Keras 3. Build it with `import tf_keras as keras`, and give it its "
               "weights: model.set_weights(keras3_model.get_weights())." if is_keras3 else
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


def slots(layer: Any, prefix: str = "", seen: set[int] | None = None,
          aliases: bool = False) -> Iterator[Slot]:
    """Yields each weight of a layer or model, with the attribute that holds it.

    Args:
      layer: a layer or model.
      prefix: the beginning of all paths.
      seen: ids of layers and weights to skip.
      aliases: whether to yield a weight again for every other attribute that holds it.
    """
    # `layer.weights` alone does not tell which attribute a weight is in.
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    if isinstance(layer, Wrapper):
        yield from slots(layer.layer, prefix, seen, aliases)
        return
    if is_graph(layer):
        for name, child in named_layers(layer.layers):
            yield from slots(child, f"{prefix}{name}/", seen, aliases)
        return
    own = {id(weight) for weight in layer.weights}
    for attribute, path, value in _attributes(layer):
        if isinstance(value, tf.Variable) and id(value) in own \
                and (aliases or id(value) not in seen):
            seen.add(id(value))
            yield Slot(prefix + path, layer, attribute, value)
        elif isinstance(value, keras.layers.Layer) and not isinstance(value, keras.metrics.Metric):
            yield from slots(value, f"{prefix}{path}/", seen, aliases)


def _attributes(layer: Any) -> Iterator[tuple[str, str, Any]]:
    # A private attribute is named without its underscore, unless that names something else: Keras'
    # layers hold some of their weights in private attributes.
    for attribute, value in vars(layer).items():
        if HIDDEN.fullmatch(attribute):
            continue
        plain = attribute.lstrip("_")
        path = plain if vars(layer).get(plain, value) is value else attribute
        yield from ((attribute, *found) for found in _leaves(path, value))


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    # Layers and weights may be in lists and dicts of any depth: "blocks/0/dense".
    if isinstance(value, dict):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        yield path, value
        return
    for key, item in items:
        yield from _leaves(f"{path}/{key}", item)


def parts(model: Any) -> list[tuple[str, Any]]:
    """Returns the layers of a model with their names: of its graph, or of its attributes.

    Example:
      >>> [name for name, _ in parts(keras.Sequential([keras.layers.Dense(2, name="fc")]))]
      ['fc']
    """
    if is_graph(model):
        return named_layers(model.layers)
    return [(path, value) for _, path, value in _attributes(model)
            if isinstance(value, keras.layers.Layer)
            and not isinstance(value, keras.metrics.Metric)]


def named_layers(layers: Iterable[Any]) -> list[tuple[str, Any]]:
    """Returns layers of one model with names that are the same whenever it is built.

    Example:
      >>> [name for name, _ in named_layers([keras.layers.Dense(2), keras.layers.Dense(2)])]
      ['dense', 'dense_1']
    """
    counts: dict[str, int] = {}
    taken: set[str] = set()
    named = []
    for layer in layers:
        inner = layer.layer if isinstance(layer, Wrapper) else layer
        name, stem = inner.name, _automatic_stem(inner)
        if stem:
            number = counts.get(stem, 0)
            counts[stem] = number + 1
            name = f"{stem}_{number}" if number else stem
        while name in taken:  # The user may have named a layer "dense_1", as an automatic name.
            name += "_"
        taken.add(name)
        named.append((name, layer))
    return named


def layer_names(model: Any) -> dict[int, str]:
    """The name of every layer in a model that a second build of it repeats, by the layer's id.

    It is the user's own name where the layer has one, else Keras' name numbered within its model;
    of a layer that an attribute holds, and that has none, it is the attribute: "encoder", "all/0".
    """
    found: dict[int, str] = {}
    waiting = [model]
    while waiting:
        holder = waiting.pop()
        for name, layer in parts(holder):
            inner = layer.layer if isinstance(layer, Wrapper) else layer
            if id(inner) not in found:
                own = is_graph(holder) or _automatic_stem(inner)
                found[id(inner)] = name if own else inner.name
                waiting.append(inner)
    return found


def _automatic_stem(layer: Any) -> str | None:
    if isinstance(layer, keras.layers.Wrapper) and layer.name.endswith(f"_{layer.layer.name}"):
        inside = _automatic_stem(layer.layer)  # As in "quant_dense_6", of tfmot's quantisation.
        if inside:
            prefix: str = layer.name.removesuffix(layer.layer.name)
            return prefix + inside
    stems = [to_snake_case(type(layer).__name__)]
    if isinstance(layer, keras.Model):
        stems += ["model", "sequential"]
    for stem in stems:
        if re.fullmatch(rf"{re.escape(stem)}(_\d+)?", layer.name):
            return str(stem)
    return None


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
    named = {slot.path: slot.variable for slot in slots(model)}
    known = {id(variable) for variable in named.values()}
    for wrapper in wrappers(model):
        known.update(id(variable) for variable in wrapper._non_trainable_weights)
    for variable in model.weights:  # Those that no attribute leads to.
        if id(variable) not in known:
            owner = next((f"{name}/" for name, layer in named_layers(model.layers)
                          if any(variable is weight for weight in layer.weights)), "")
            name = owner + variable.name.split(":")[0].rpartition("/")[2]
            while name in named:
                name += "_"
            named[name] = variable
    return named


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
    for wrapper in wrappers(model):
        for weight, mask, threshold in wrapper.pruning_vars:
            name = names[id(weight)]
            layer = layers.get(id(wrapper.layer), wrapper.layer.name)
            prunable = Prunable(name, layer, type(wrapper.layer).__name__, id(wrapper) in outputs)
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
        if not inside and not any(len(weight.shape) > 1 for weight in layer.weights):
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
