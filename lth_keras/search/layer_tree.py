"""Names every layer and weight of a model in the same way whenever the model is built.

Keras numbers layers over a whole process: a model that is built twice has "dense" first and then
"dense_3".  Tickets need names that stay the same.  Here, layers with automatic names are numbered
within their model, and a weight is named by the attribute that holds it: "dense/kernel",
"block/conv2d_1/kernel", "lstm/cell/recurrent_kernel".  Pruning wrappers do not appear in names, so
a model has the same names with and without them; and a model of Keras 3 has the names of the same
model of tf_keras, so that a ticket of one fits the other.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lth_keras.core.fractions import LayerNames

# Attributes in which TensorFlow keeps second references to what a layer holds.  Not all that begin
# with _self_ are: `self._self_attention_layer` is what keras_hub calls a layer of its own.
TRACKED_BY_TENSORFLOW = (r"_self_(tracked_trackables|extra_variables|unconditional_\w+"
                         r"|saveable_object_factories|name_based_restores)")


@dataclasses.dataclass(frozen=True)
class Slot:
    """A weight, and the attribute that holds it.

    Attributes:
      path: the weight's name, relative to the layer that was searched, such as "cell/kernel".
      owner: the layer that has the attribute.
      attribute: the name of the attribute.
      variable: the weight.

    Example:
      >>> import tf_keras as keras
      >>> from lth_keras.keras2.masking.weight_names import slots
      >>> dense = keras.layers.Dense(3)
      >>> dense.build((None, 2))
      >>> [(slot.path, slot.attribute) for slot in slots(dense)]
      [('kernel', 'kernel'), ('bias', 'bias')]
    """

    path: str
    owner: Any
    attribute: str
    variable: Any


@dataclasses.dataclass(frozen=True)
class LayerTree:
    """The layers and weights of the models of one Keras, with their names.

    Attributes:
      package: the package of this Keras, such as "tf_keras".
      layer, model, metric, wrapper, variable: the classes of this Keras.
      is_graph: whether a layer is a Sequential or functional model, whose layers are in `layers`.
      hidden: the attributes in which Keras keeps second references to what other attributes hold.
      snake_case: from a class's name to the automatic names of its layers.
      unwrapped: the layer within a pruning wrapper; any other layer itself.
      renamed: (class of layer, attribute) -> the name of a weight that is not its attribute's.
    """

    package: str
    layer: Any
    model: Any
    metric: Any
    wrapper: Any
    variable: Any
    is_graph: Callable[[Any], bool]
    hidden: re.Pattern[str]
    snake_case: Callable[[str], str]
    unwrapped: Callable[[Any], Any] = lambda layer: layer
    renamed: Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict)

    def slots(self, layer: Any, prefix: str = "", seen: set[int] | None = None,
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
        inner = self.unwrapped(layer)
        if inner is not layer:
            yield from self.slots(inner, prefix, seen, aliases)
            return
        if self.is_graph(layer):
            for name, child in self.named_layers(layer.layers):
                yield from self.slots(child, f"{prefix}{name}/", seen, aliases)
            return
        own = {id(weight) for weight in layer.weights}
        for attribute, path, value in self._attributes(layer):
            if isinstance(value, self.variable) and id(value) in own \
                    and (aliases or id(value) not in seen):
                seen.add(id(value))
                yield Slot(prefix + path, layer, attribute, value)
            elif isinstance(value, self.layer) and not isinstance(value, self.metric):
                yield from self.slots(value, f"{prefix}{path}/", seen, aliases)

    def parts(self, model: Any) -> list[tuple[str, Any]]:
        """The layers of a model with their names: of its graph, or of its attributes."""
        if self.is_graph(model):
            return self.named_layers(model.layers)
        return [(path, value) for _, path, value in self._attributes(model)
                if isinstance(value, self.layer) and not isinstance(value, self.metric)]

    def named_layers(self, layers: Iterable[Any]) -> list[tuple[str, Any]]:
        """Layers of one model with names that are the same whenever it is built."""
        counts: dict[str, int] = {}
        taken: set[str] = set()
        named = []
        for layer in layers:
            inner = self.unwrapped(layer)
            name, stem = inner.name, self._automatic_stem(inner)
            if stem:
                number = counts.get(stem, 0)
                counts[stem] = number + 1
                name = f"{stem}_{number}" if number else stem
            while name in taken:  # The user may have named a layer "dense_1", as an automatic name.
                name += "_"
            taken.add(name)
            named.append((name, layer))
        return named

    def layer_names(self, model: Any) -> dict[int, LayerNames]:
        """What every layer in a model is called, by the layer's id.

        A layer's name, which a second build of the model repeats, is the user's own where it has
        one, else Keras' name numbered within its model; of a layer that an attribute holds, and
        that has none, it is the attribute: "encoder", "all/0".
        """
        found: dict[int, LayerNames] = {}

        def visit(holder: Any, path: str, by_keras: str) -> None:
            for name, layer in self.parts(holder):
                inner = self.unwrapped(layer)
                if id(inner) in found:
                    continue
                own = self.is_graph(holder) or self._automatic_stem(inner)
                found[id(inner)] = LayerNames(name if own else inner.name, path + name,
                                              (inner.name, by_keras + inner.name))
                visit(inner, f"{path}{name}/", f"{by_keras}{inner.name}/")
        visit(model, "", "")
        return found

    def named_weights(self, model: Any, others: Iterable[Any] = ()) -> dict[str, Any]:
        """Every weight of a model by name.

        Args:
          model: a built model.
          others: variables among `model.weights` that are no weights, such as masks.
        """
        named = {slot.path: slot.variable for slot in self.slots(model)}
        known = {id(variable) for variable in (*named.values(), *others)}
        for variable in model.weights:  # Those that no attribute leads to.
            # Among the weights of tf_keras is the vocabulary of a lookup, which is no variable.
            if isinstance(variable, self.variable) and id(variable) not in known:
                owner = next((f"{name}/" for name, layer in self.named_layers(model.layers)
                              if any(variable is weight for weight in layer.weights)), "")
                name = owner + variable.name.split(":")[0].rpartition("/")[2]
                while name in named:
                    name += "_"
                named[name] = variable
        return named

    def _attributes(self, layer: Any) -> Iterator[tuple[str, str, Any]]:
        # A private attribute is named without its underscore, unless that names something else:
        # Keras' layers hold some of their weights in private attributes.
        # On the torch backend, layers within a layer are among its torch modules instead.
        for attribute, value in {**vars(layer), **vars(layer).get("_modules", {})}.items():
            if self.hidden.fullmatch(attribute):
                continue
            plain = attribute.lstrip("_")
            path = plain if vars(layer).get(plain, value) is value else attribute
            path = self.renamed.get((type(layer).__name__, attribute), path)
            yield from ((attribute, *found) for found in _leaves(path, value))

    def _automatic_stem(self, layer: Any) -> str | None:
        if isinstance(layer, self.wrapper) and layer.name.endswith(f"_{layer.layer.name}"):
            inside = self._automatic_stem(layer.layer)  # As in "quant_dense_6", of tfmot's
            if inside:                                  # quantisation.
                prefix: str = layer.name.removesuffix(layer.layer.name)
                return prefix + inside
        stems = [self.snake_case(type(layer).__name__)]
        if isinstance(layer, self.model):
            stems += ["model", "sequential", "functional"]
        for stem in stems:
            if re.fullmatch(rf"{re.escape(stem)}(_\d+)?", layer.name):
                return str(stem)
        return None


def axes_of(slot: Slot) -> str:
    """What the last two axes of a kernel are, if not its inputs and its outputs; otherwise "".

    Example:
      >>> import tf_keras as keras
      >>> from lth_keras.keras2.masking.weight_names import slots
      >>> layer = keras.layers.Conv2DTranspose(3, 1)
      >>> layer.build((None, 5, 5, 2))
      >>> axes_of(next(slots(layer)))
      'of a transposed convolution: outputs, inputs'
    """
    kinds = {base.__name__ for base in type(slot.owner).__mro__}
    if kinds & {f"Conv{rank}DTranspose" for rank in (1, 2, 3)}:
        return "of a transposed convolution: outputs, inputs"
    if slot.path.rpartition("/")[2] == "depthwise_kernel":
        return "depthwise: channels, outputs of each alone"
    if "EinsumDense" in kinds and slot.attribute.lstrip("_") == "kernel":
        _, kernel, made = re.split(",|->", slot.owner.equation.replace(" ", ""))
        if len(kernel) > 1 and (kernel[-2] in made or kernel[-1] not in made):
            return f"of an EinsumDense: {kernel[-2:]} of {slot.owner.equation}"
    return ""


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
