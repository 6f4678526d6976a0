"""Selects the weights to prune: by default the kernels of trainable layers.

A weight is prunable if it has rank 2 or more, is trainable, and is not a bias, normalisation
parameter, embedding or activation slope.  `include` adds layers that are left out by default
(embeddings, frozen layers); `exclude` leaves layers dense.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from lth_keras.core.fractions import LayerNames, layers_called
from lth_keras.errors import LotteryError
from lth_keras.search.layer_tree import LayerTree, Slot

Selector = str | type | Callable[[Any], bool]

# The attributes of Keras' layers that hold other weights than kernels.  The rank does not tell
# them: the biases of MultiHeadAttention and GRU have rank 2.  The names are also applied to users'
# layers, unless `include` selects the layer.  Only whole names count: an "alpha_kernel" is a
# kernel.
NOT_KERNELS = frozenset({"bias", "gamma", "beta", "alpha", "moving_mean", "moving_variance"})
_OFF_BY_DEFAULT = {
    "Embedding": "an embedding, off by default: name it in include",
    "PReLU": "an activation's slope",
    "BatchNormalization": "a normalisation parameter",
    "LayerNormalization": "a normalisation parameter",
    "GroupNormalization": "a normalisation parameter",
    "UnitNormalization": "a normalisation parameter",
    "Normalization": "a statistic of the data",
}


def weights_of(layer: Any, tree: LayerTree,
               included: bool = False) -> tuple[list[Slot], list[str]]:
    """Finds the prunable weights of a layer.

    Args:
      layer: a built layer.
      tree: the layers of its Keras.
      included: whether `include` selects the layer.

    Returns:
      The slots of its prunable weights, and for each other weight a line with the reason.

    Example:
      >>> import tf_keras as keras
      >>> from lth_keras.keras2.masking.weight_names import TREE
      >>> layer = keras.layers.Dense(3)
      >>> layer.build((None, 2))
      >>> [slot.path for slot in weights_of(layer, TREE)[0]], weights_of(layer, TREE)[1]
      (['kernel'], ['bias is of rank 1'])
    """
    chosen: list[Slot] = []
    reasons: list[str] = []
    if "SpectralNormalization" in _own_classes(layer, tree):
        return [], ["a SpectralNormalization, which writes into its layer's kernel itself"]
    trained = {id(weight) for weight in layer.trainable_weights}
    if callable(getattr(layer, "get_prunable_weights", None)):
        named = {id(weight) for weight in layer.get_prunable_weights()}
        chosen = [slot for slot in tree.slots(layer) if id(slot.variable) in named]
        return chosen, [f"{slot.path} is not among its get_prunable_weights()"
                        for slot in tree.slots(layer) if id(slot.variable) not in named]
    for slot in tree.slots(layer):
        reason = _lora(slot) or _reason(slot, tree, id(slot.variable) in trained, included)
        if reason:
            reasons.append(f"{slot.path} is {reason}")
        else:
            chosen.append(slot)
    return chosen, reasons


def _lora(slot: Slot) -> str | None:
    # Neither the frozen kernel, to which a product is added, nor the product's factors.
    if not getattr(slot.owner, "lora_enabled", False):
        return None
    return ("of a layer with LoRA, which computes with its kernel and a product that has no zeros; "
            "train it first, then save and load the model")


def _reason(slot: Slot, tree: LayerTree, trained: bool, included: bool) -> str | None:
    shape = slot.variable.shape
    rank = shape.rank if hasattr(shape, "rank") else len(shape)
    if rank is None or rank < 2:
        return f"of rank {rank}"
    own = _own_classes(slot.owner, tree)
    # A layer of a user's own class. One that derives from a layer of Keras, such as Dense, counts
    # as Keras': its attributes have Keras' names.
    is_users = not own - {"Layer", "Model", "LayerVersionSelector"}
    if slot.attribute.lstrip("_") in NOT_KERNELS and not (included and is_users):
        return "no kernel"
    if included:
        return None
    if why := off_by_default(slot.owner, tree):
        return why
    if not trained:
        return "not trained: name its layer in include to prune it all the same"
    return None


def off_by_default(layer: Any, tree: LayerTree) -> str | None:
    """Returns why no weight of a layer is pruned by default, by its class; None if some may be.

    Example:
      >>> import tf_keras as keras
      >>> from lth_keras.keras2.masking.weight_names import TREE
      >>> off_by_default(keras.layers.PReLU(), TREE), off_by_default(keras.layers.Dense(1), TREE)
      ("an activation's slope", None)
    """
    own = _own_classes(layer, tree)
    return next((why for name, why in _OFF_BY_DEFAULT.items() if name in own), None)


def _own_classes(layer: Any, tree: LayerTree) -> set[str]:
    """The names of the classes of Keras' own among those of a layer."""
    return {base.__name__ for base in type(layer).__mro__
            if base.__module__.partition(".")[0] == tree.package}


def matches(layer: Any, selectors: Sequence[Selector],
            names: "Collection[str] | None" = None) -> list[Selector]:
    """Returns the selectors that match a layer: its name, its type, or a function true of it.

    Args:
      layer: a layer.
      selectors: the selectors in `include` or `exclude`.
      names: those among them that name this layer of its model. By default what Keras calls it.

    Example:
      >>> import tf_keras as keras
      >>> matches(keras.layers.Dense(1, name="head"), ["head", "Conv2D", keras.layers.Dense])
      ['head', <class 'tf_keras.src.layers.core.dense.Dense'>]
    """
    def means(selector: Selector) -> bool:
        if isinstance(selector, str):
            named = selector == layer.name if names is None else selector in names
            return named or selector == type(layer).__name__
        if isinstance(selector, type):
            return isinstance(layer, selector)
        return bool(selector(layer))
    return [selector for selector in selectors if means(selector)]


def check_selectors(value: Any, name: str, tree: LayerTree) -> Sequence[Selector]:
    """Returns `include` or `exclude` as a sequence of selectors.

    Args:
      value: the value of the argument: one selector, or several.
      name: the name of the argument, for the message.
      tree: the layers of this Keras.

    Raises:
      LotteryError: if a selector is not a name, a layer type or a function.

    Example:
      >>> from lth_keras.keras2.masking.weight_names import TREE
      >>> check_selectors("head", "exclude", TREE)
      ['head']
    """
    if value is None or isinstance(value, (int, float)):
        raise LotteryError(f"{name} takes layer names, layer types and functions of a layer. "
                           f"Received: {value!r}.")
    selectors = [value] if isinstance(value, (str, type)) or callable(value) else list(value)
    for selector in selectors:
        if not (isinstance(selector, str) or callable(selector)):
            raise LotteryError(f"{name} takes layer names, layer types and functions of a layer. "
                               f"Received: {selector!r}.")
        if isinstance(selector, type) and not issubclass(selector, tree.layer):
            raise LotteryError(f"{name} takes types of {tree.package} layers. "
                               f"Received: {selector.__module__}.{selector.__qualname__}.")
    return selectors


class Selection:
    """Selects the weights of a model to prune, by `include`, `exclude` and a pruning policy.

    A weight that several layers share is pruned in all of them or in none.  `exclude` and the
    policy override `include`, which overrides the defaults.

    Args:
      tree: the layers of the model's Keras.
      include, exclude, policy: as `lth.prune_low_magnitude` takes them.
    """

    def __init__(self, tree: LayerTree, include: Any, exclude: Any, policy: Any = None):
        self._tree = tree
        self._include = check_selectors(include, "include", tree)
        self._exclude = check_selectors(exclude, "exclude", tree)
        methods = ("ensure_model_supports_pruning", "allow_pruning")
        is_policy = not isinstance(policy, type) and all(
            callable(getattr(policy, name, None)) for name in methods)
        if not (policy is None or is_policy):
            raise LotteryError("pruning_policy must be a tfmot PruningPolicy, such as "
                               "tfmot.sparsity.keras.PruneForLatencyOnXNNPack(). "
                               f"Received: {policy!r}.")
        self._policy = policy
        self._used: set[int] = set()
        self._names: dict[int, LayerNames] = {}
        self._called: dict[str, dict[str, list[LayerNames]]] = {}
        self.reasons: list[str] = []

    def is_included(self, layer: Any) -> bool:
        """Whether `include` selects this layer."""
        return self._mark_used(matches(layer, self._include, self._names_of(layer, "include")))

    def is_excluded(self, layer: Any) -> bool:
        """Whether `exclude` selects this layer."""
        return self._mark_used(matches(layer, self._exclude, self._names_of(layer, "exclude")))

    def name_layers(self, model: Any) -> None:
        """Finds which layers of a model the names in `include` and `exclude` mean.

        Raises:
          LotteryError: if a name means several layers.
        """
        self._names = self._tree.layer_names(model)
        inner = (self._tree.unwrapped(layer) for layer, _ in units(model, self._tree, nested=True))
        layers = [self._names[id(layer)] for layer in inner]
        self._called = {argument: layers_called(
            [each for each in selectors if isinstance(each, str)], layers, f"{argument}=")
            for argument, selectors in (("include", self._include), ("exclude", self._exclude))}

    def _names_of(self, layer: Any, argument: str) -> "list[str] | None":
        names = self._names.get(id(self._tree.unwrapped(layer)))
        return None if names is None else [
            name for name, layers in self._called[argument].items() if names in layers]

    def forbidden_by_policy(self, layer: Any) -> str | None:
        """Returns why the policy forbids pruning a layer, or None if it does not."""
        if self._policy is None or self._policy.allow_pruning(layer):
            return None
        return f"not allowed by {type(self._policy).__name__}"

    def check_policy(self, model: Any) -> None:
        """Raises LotteryError if the policy does not support the model.

        Raises:
          LotteryError: with what the policy says.
        """
        try:
            if self._policy is not None:
                self._policy.ensure_model_supports_pruning(model)
        except ValueError as error:
            raise LotteryError(f"The model must suit its {type(self._policy).__name__}. Received: "
                               f"{model.name!r}, of which that says: {error}.") from error

    def _mark_used(self, found: list[Selector]) -> bool:
        # A selector that is never marked matched no layer, which check_used reports.
        self._used.update(id(selector) for selector in found)
        return bool(found)

    def weights(self, model: Any) -> set[int]:
        """Returns the ids of the variables to prune, and fills `reasons`.

        `reasons` gets a line for each layer without a weight to prune.

        Raises:
          LotteryError: if a selector of `include` matches only layers that cannot be pruned, or a
            name means several layers.
        """
        # The layers that share a weight vote on it: variable id -> (strength, whether to prune).
        # An exclusion counts more than an inclusion, and that more than a default.
        votes: dict[int, tuple[int, bool]] = {}
        self.name_layers(model)
        unprunable: dict[int, tuple[Selector, list[str]]] = {}
        effective: set[int] = set()
        for layer, name, included, excluded in self._layers(model, "", False, False):
            reason = "excluded" if excluded else self.forbidden_by_policy(layer)
            chosen, reasons = ([], [reason]) if reason else weights_of(layer, self._tree, included)
            yes = {id(slot.variable) for slot in chosen}
            for selector in matches(layer, self._include, self._names_of(layer, "include")):
                if chosen or excluded:
                    effective.add(id(selector))
                else:
                    unprunable.setdefault(id(selector), (selector, []))[1].append(
                        f"{name}: {'; '.join(reasons) or 'it has no weights'}")
            for slot in self._tree.slots(layer):
                key = id(slot.variable)
                strength = 3 if reason else 2 if key in yes and included else key not in yes
                votes[key] = max(votes.get(key, (-1, False)), (int(strength), key in yes))
            if not chosen:
                self.reasons.append(f"{name} ({type(layer).__name__}): "
                                    f"{'; '.join(reasons) or 'it has no weights'}")
        for key, (selector, why) in unprunable.items():
            if key not in effective:
                raise LotteryError("include must name layers with weights that can be pruned. "
                                   f"Received: {selector!r}, which selects "
                                   f"{'; '.join(why[:3])}.")
        return {key for key, (_, yes) in votes.items() if yes}

    def _layers(self, model: Any, prefix: str, included: bool,
                excluded: bool) -> Iterator[tuple[Any, str, bool, bool]]:
        for layer, path in units(model, self._tree, prefix, deep=False):
            now = included | self.is_included(layer), excluded | self.is_excluded(layer)
            if is_opened(layer, model, self._tree):
                yield from self._layers(layer, f"{path}/", *now)
            else:
                yield layer, path, *now

    def check_used(self, *models: Any) -> None:
        """Raises LotteryError if a selector matched no layer of any of the models or layers.

        Raises:
          LotteryError: if so; the message lists the layers.
        """
        unused = [selector for selector in (*self._include, *self._exclude)
                  if id(selector) not in self._used]
        if unused:
            lines = [f"{path} ({type(layer).__name__})"
                     for model in models for layer, path in units(model, self._tree, nested=True)]
            raise LotteryError(f"include and exclude must name layers of the model. Received: "
                               f"{unused}. Layers: {', '.join(lines)}.")


def is_opened(layer: Any, model: Any, tree: LayerTree) -> bool:
    """Whether the layers inside a layer of a model are wrapped one by one, not all together.

    They are in nested Sequential and functional models, and in a subclassed model inside another.
    A subclassed model inside a Sequential or functional model is wrapped as a whole, like any
    layer.
    """
    return tree.is_graph(layer) or (isinstance(layer, tree.model) and not tree.is_graph(model))


def units(model: Any, tree: LayerTree, prefix: str = "", deep: bool = True,
          nested: bool = False) -> Iterator[tuple[Any, str]]:
    """Yields the layers of a model that are wrapped as a whole, with their paths.

    Layers inside another layer are wrapped with it, but nested models are opened (`is_opened`).

    Args:
      model: a model, or a single layer.
      tree: the layers of its Keras.
      prefix: the beginning of all paths.
      deep: whether to yield the layers of nested models instead of the nested models.
      nested: whether to yield nested models as well.

    Example:
      >>> import tf_keras as keras
      >>> from lth_keras.keras2.masking.weight_names import TREE
      >>> inner = keras.Sequential([keras.layers.Dense(2, name="one")], name="inner")
      >>> model = keras.Sequential([inner, keras.layers.Dense(1, name="two")])
      >>> [path for _, path in units(model, TREE)]
      ['inner/one', 'two']
    """
    if not isinstance(model, tree.model):
        yield model, model.name
        return
    for name, layer in tree.parts(model):
        if type(layer).__name__ == "InputLayer":
            continue
        opened = is_opened(layer, model, tree)
        if not (opened and deep) or nested:
            yield layer, prefix + name
        if opened and deep:
            yield from units(layer, tree, f"{prefix}{name}/", deep, nested)
