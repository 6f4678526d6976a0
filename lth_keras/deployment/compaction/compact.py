"""`lth.compact`: removes units, channels and inputs without connections from a pruned model.

The smaller model computes the same predictions, up to rounding.  A unit without incoming
connections has a constant value, which can be added to the biases of the next layer.  A unit
without outgoing connections has no effect.  Removing one may leave others without connections, so
this is repeated, forwards and backwards, until nothing more can be removed.
"""

import dataclasses
import functools
import html
from typing import Any

import numpy as np

from lth_keras.deployment.compaction import carried_optimizer, channels, layer_parts
from lth_keras.deployment.compaction.channels import Analysis
from lth_keras.deployment.compaction.places import Places
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.deployment.models.model_kind import ModelKind
from lth_keras.errors import LotteryError
from lth_keras.files.ticket import Ticket
from lth_keras.graph import model_graph, rebuild
from lth_keras.graph.model_graph import Graph
from lth_keras.graph.operations import Channelwise, Flags, Linear
from lth_keras.graph.rebuild import Part

# What a class of the user's own may do in its own way when a model is trained or evaluated.
_TRAINING = ("compute_loss", "compute_metrics", "evaluate", "fit", "make_test_function",
             "make_train_function", "test_on_batch", "test_step", "train_on_batch", "train_step")


@dataclasses.dataclass(frozen=True, eq=False)
class Compacted:
    """A compacted model, and what was removed from it.

    Attributes:
      model: the smaller model, not compiled.
      removed: layer name -> (units before, units after), for layers that lost units or filters.
      inputs: layer name -> (inputs before, inputs after), for layers that read only a part of
        their input.
      left: sentences that say what could not be removed, and why.
      weights: the numbers of weights (before, after), including biases and statistics.
      places: where the weights of the smaller model lie in the given one.

    Example:
      >>> print(Compacted(None, {"fc1": (300, 255)}, {}, (), (266_610, 31_005)).summary())
      266,610 weights before, 31,005 after (11.6%)
        fc1: 300 units -> 255
    """

    model: Any
    removed: dict[str, tuple[int, int]]
    inputs: dict[str, tuple[int, int]]
    left: tuple[str, ...]
    weights: tuple[int, int]
    places: "Places | None" = None

    def __repr__(self) -> str:
        return f"<Compacted: {self.summary().splitlines()[0]}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"

    def ticket(self, ticket: Ticket) -> Ticket:
        """The ticket of the smaller model: what a ticket of the given model has of its weights.

        Its weights are theirs as they are, without constants of removed units in biases: trained
        from them, the smaller model is what the given one is under its masks, if whole filters
        were pruned.

        Args:
          ticket: a ticket of the model that was compacted.

        Raises:
          TicketError: if it has other weights than that model.

        Example:
          >>> import numpy as np, keras
          >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="a"),
          ...                           keras.layers.Dense(1, name="b")])
          >>> masks = {"a/kernel": np.array([[1, 0, 1], [1, 0, 1]], np.uint8),
          ...          "b/kernel": np.array([[1], [0], [1]], np.uint8)}
          >>> weights = {"a/kernel": np.arange(6.0).reshape(2, 3), "a/bias": np.zeros(3),
          ...            "b/kernel": np.ones((3, 1)), "b/bias": np.zeros(1)}
          >>> found = Ticket(weights, masks, level=1)
          >>> small = compact(found.apply(model))
          >>> small.ticket(found).weights["a/kernel"].tolist()
          [[0.0, 2.0], [3.0, 5.0]]
        """
        if self.places is None:
            return ticket
        return dataclasses.replace(ticket, weights=self.places.all_of(ticket.weights),
                                   masks=self.places.of(ticket.masks))

    def carry_optimizer(self, model: Any, to: Any = None) -> None:
        """Gives the smaller model's optimizer the state of the given model's: training goes on.

        Slots (momentum, Adam's moments, averages) go over by weight, without the indices that are
        gone; iterations, learning rate and loss scale as they are.  From there the smaller model
        trains as the given one would under its masks, up to rounding, where whole filters were
        pruned with all that hangs on them (structure="filters").

        It does not where other weights are pruned too, unless `lth.keep_sparse` has given the
        smaller model their masks; nor where constants of removed units are in biases, whose slots
        are kept as they are while the units' own biases no longer train; nor where random numbers
        are drawn by shape, as in dropout.  States of recurrent layers and of random generators are
        not carried over.

        Args:
          model: the model that was compacted, compiled; it is not changed.  It must not have been
            trained since.
          to: what gets the state: the smaller model, or the wrapped copy of it that
            `lth.keep_sparse` makes in tf_keras.  Compile it with the same optimizer and settings
            before.  Defaults to the attribute `model`.

        Raises:
          LotteryError: if one of the two is not compiled, their optimizers differ, the optimizer
            steps elements of a weight by others, as Adafactor and Muon do, or `model` is another
            one than was compacted.

        Example:
          >>> import numpy as np, keras
          >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="a"),
          ...                           keras.layers.Dense(1, name="b")])
          >>> weights = [np.array([[1, 0, 1], [1, 0, 1]]), np.zeros(3), np.array([[1], [0], [1]])]
          >>> model.set_weights([*weights, np.zeros(1)])
          >>> model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
          >>> history = model.fit(np.ones((4, 2)), np.ones(4), verbose=0)
          >>> small = compact(model)
          >>> small.model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
          >>> small.carry_optimizer(model)
          >>> int(small.model.optimizer.iterations)
          1
          >>> tuple(small.model.optimizer.momentums[0].shape)
          (2, 2)
        """
        if self.places is not None:  # None of a model that is left as it is.
            carried_optimizer.carry(model, self.model if to is None else to, self.places)

    def summary(self) -> str:
        """Returns all of it as text, one item on each line."""
        before, after = self.weights
        return "\n".join([
            f"{before:,} weights before, {after:,} after ({after / max(before, 1):.1%})",
            *(f"  {name}: {old} units -> {new}" for name, (old, new) in self.removed.items()),
            *(f"  {name}: {old} inputs -> {new}" for name, (old, new) in self.inputs.items()),
            *(f"  left: {sentence}" for sentence in self.left)])


def compact(model: Any, take_inputs: bool = False, *, ignore_shifts: bool = False) -> Compacted:
    """Removes the units, channels and inputs of a pruned model that have no connections.

    The predictions stay the same.  A unit without incoming connections is constant, also after
    activation, normalisation and pooling; the constant is added to the next layer's bias, which is
    created if there is none.  Channels joined by a residual addition are removed together or not at
    all.  If constant channels are zero-padded, one of them is kept for all, since the border
    differs.  What cannot be removed exactly stays, and `left` says why.

    Args:
      model: a built model of Keras 3, or of tf_keras with or without pruning wrappers.  It is not
        changed, except that `strip_pruning` is applied to a wrapped one.
      take_inputs: whether to select features by their positions where unused inputs cannot be
        removed upstream, such as pixels.  The kernel gets smaller, but gathering costs time.  In a
        tf_keras model this is a layer of this package, in one of Keras 3 an operation of Keras.
      ignore_shifts: whether to drop what a filter without weights still gives to the next layers:
        its bias, or the shift (beta) of its batch normalisation.  This is not exact: predictions
        change until the smaller model is trained.  Li et al., ICLR 2017 (arXiv:1608.08710), and
        Liu et al. 2019 prune filters in this form; `left` says what was dropped.  Of filters that
        are pruned by structure="filters" nothing is left to drop.

    Returns:
      A `Compacted` with the new model, Sequential or functional, with the same inputs, outputs and
      names of layers.  It is not compiled; one of Keras 3 is kept sparse by `lth.keep_sparse`.
      Layers of unknown types are shared with the given model; models within it are taken apart,
      so that their layers are the model's own.  A subclassed model is returned as it is, since its
      graph is its Python code.

    Raises:
      LotteryError: if `model` is not a Keras model, or is not built.

    Example: the second of three units has no input, the third no output.
      >>> import numpy as np, tf_keras as keras
      >>> hidden = keras.layers.Dense(3, "sigmoid", name="hidden")
      >>> model = keras.Sequential([keras.layers.Input((2,)), hidden, keras.layers.Dense(1)])
      >>> model.set_weights([np.array([[1, 0, 1], [1, 0, 1.0]]), np.zeros(3),
      ...                    np.array([[2], [4], [0.0]]), np.zeros(1)])
      >>> small = compact(model)
      >>> print(small.summary())
      13 weights before, 5 after (38.5%)
        hidden: 3 units -> 1
      >>> small.model.get_weights()[-1]
      array([2.], dtype=float32)
    """
    kind = kind_of(model)
    _check(model, kind)
    reason = _not_rebuildable(model, kind)
    if reason:
        count = model.count_params()
        return Compacted(model, {}, {}, (reason,), (count, count))
    bare = kind.bare(model) if kind.is_wrapped(model) else model
    read = model_graph.read(bare)
    # Reads the graph as operations on channels, finds what is needed, and rebuilds each layer.
    found = channels.analyse(read.widths, read.operations, ignore_shifts)
    # A shared layer has several nodes in the graph, but is rebuilt once.
    done: dict[int, Part] = {}
    taken = {layer.name for layer in bare.layers} if take_inputs else None
    for node, operations in zip(read.nodes, read.calls, strict=True):
        if id(node.layer) not in done:
            done[id(node.layer)] = layer_parts.part(node.layer, operations, found, taken)
    parts = [done[id(node.layer)] for node in read.nodes]
    small = rebuild.rebuilt(bare, read, parts)
    removed, inputs = _sizes(read, found, parts)
    left = [*(f"{name}: is not part of the smaller model, since no output depends on it"
              for name in beside_the_graph(bare)),
            *_lost_training(bare), *_lost_functions(bare, small), *_left(read, found, parts)]
    if ignore_shifts:
        left = [*_dropped(read, found), *left]
    return Compacted(small, removed, inputs, tuple(left),
                     (bare.count_params(), small.count_params()),
                     Places.between(kind, (bare, small), read, parts, found))


def beside_the_graph(model: Any) -> list[str]:
    """What tf_keras' add_loss and add_metric have given a model beside its graph, by name."""
    added = [layer.name for layer in model.layers
             if type(layer).__name__ in ("AddLoss", "AddMetric")]
    return [*added, *["add_loss"][:bool(getattr(model, "_callable_losses", None)) and not added]]


def own_training(model: Any) -> list[str]:
    """The methods that train or evaluate a model in a way of its class, not in that of Keras.

    Example:
      >>> import keras
      >>> class Halved(keras.Model):
      ...     def compute_loss(self, *args, **kwargs):
      ...         return super().compute_loss(*args, **kwargs) / 2
      >>> own_training(Halved()), own_training(keras.Sequential())
      (['compute_loss'], [])
    """
    plain = kind_of(model).keras.Model
    return [name for name in _TRAINING
            if getattr(type(model), name, None) is not getattr(plain, name, None)]


def _lost_training(model: Any) -> list[str]:
    own = own_training(model)
    return [f"{model.name}: is trained as Keras does, without {', '.join(own)} of "
            f"{type(model).__name__}"] if own else []


def added_losses(model: Any) -> dict[str, Any]:
    """The layers of a model, by name, to which tf_keras' add_loss has given functions.

    A regularizer of a weight is one too, but its layer makes it anew: it is not among them.

    Args:
      model: the model, stripped; it may be one of the layers itself.
    """
    return {layer.name: layer for layer in model._flatten_layers() if _added(layer)}


def _added(layer: Any) -> list[Any]:
    return [loss for loss in getattr(layer, "_callable_losses", ()) if not _is_regularizer(loss)]


def _is_regularizer(loss: Any) -> bool:
    # Keras holds each function as partial(tag, function), and this one for a regularizer.
    while loss is not None:
        is_partial = isinstance(loss, functools.partial)
        function = loss.func if is_partial else loss
        if getattr(function, "__name__", "") == "_loss_for_variable" \
                and function.__module__.startswith("tf_keras."):
            return True
        loss = loss.args[0] if is_partial and loss.args else None
    return False


def _lost_functions(model: Any, small: Any) -> list[str]:
    # A layer that is shared keeps them, and one of the user's own class may have added them itself.
    now = {layer.name: len(_added(layer)) for layer in small._flatten_layers()}
    return [f"{name}: is trained without the functions that add_loss was given, which are of its "
            "own weights" for name, layer in added_losses(model).items()
            if layer is not model and now.get(name, 0) < len(_added(layer))]


def _check(model: Any, kind: ModelKind) -> None:
    if not isinstance(model, kind.keras.Model):
        raise LotteryError("A model is needed. Received: a layer, "
                           f"{type(model).__module__}.{type(model).__qualname__}.")
    if not model.built:
        raise LotteryError("A model must be built before it is compacted. Received: "
                           f"{type(model).__name__} without weights. Call it on a batch, "
                           "model(x), or call model.build(input_shape).")


def _not_rebuildable(model: Any, kind: ModelKind) -> str:
    # The reason why a model cannot be rebuilt from its layers, or "". A call() of its own may do
    # anything with them.
    if not kind.is_graph(model) or not model.inputs:
        return f"{model.name}: is left as it is, since the graph of a subclassed model is its code"
    if kind.has_own_call(model):
        return (f"{model.name}: is left as it is, since {type(model).__name__} has a call() of its "
                "own")
    return ""


def _sizes(read: Graph, found: Analysis, parts: list[Part]) -> tuple[dict[str, tuple[int, int]],
                                                                     dict[str, tuple[int, int]]]:
    removed, inputs = {}, {}
    for node, operations, part in zip(read.nodes, read.calls, parts, strict=True):
        name = kind_of(node.layer).known_as(node.layer)
        for operation in operations:
            if isinstance(operation, (Linear, Channelwise)) and part.weights:
                kept = found.kept[operation.target]
                # Of attention, the number of heads.
                if not kept.all() and name not in ("BatchNormalization", "PReLU") \
                        and node.layer.name not in removed:
                    removed[node.layer.name] = (len(kept), int(kept.sum()))
            if isinstance(operation, Linear) and part.before is not None:
                places = layer_parts.positions(operation, found)
                assert places is not None
                inputs[node.layer.name] = (read.widths[operation.source], len(places))
    return removed, inputs


def _left(read: Graph, found: Analysis, parts: list[Part]) -> list[str]:
    left = [f"{name}: {reason}, so its channels are kept" for name, reason in read.left.items()]
    for node, operations, part in zip(read.nodes, read.calls, parts, strict=True):
        for operation in operations:
            if isinstance(operation, Linear):
                reasons = _left_of_linear(read, operation, found, part)
            elif isinstance(operation, Channelwise):
                reasons = _left_of_channelwise(operation, found)
            else:
                continue
            left += [f"{node.layer.name}: {reason}" for reason in reasons]
    return list(dict.fromkeys(left))  # Several operations of a layer may say the same.


def _dropped(read: Graph, found: Analysis) -> list[str]:
    exact = channels.analyse(read.widths, read.operations)
    dropped = []
    for node, operations in zip(read.nodes, read.calls, strict=True):
        for operation in operations:
            if isinstance(operation, Linear):
                lost = exact.constants[operation.source]
                count = _number(~np.isnan(lost) & (lost != 0) & ~np.isnan(
                    found.constants[operation.source]), "constant input")
                if count:
                    dropped.append(f"{node.layer.name}: {count} taken for zero, so predictions "
                                   "are not the same (ignore_shifts)")
    return dropped


def _left_of_linear(read: Graph, operation: Linear, found: Analysis, part: Part) -> list[str]:
    # `constants` holds NaN for channels whose value depends on the input.
    live, there = found.live[operation.target], found.kept[operation.source]
    needed = ~layer_parts.unread(operation, found)
    still = _number(live & ~np.isnan(found.constants[operation.target]), "constant unit")
    border = _number(needed & ~np.isnan(found.constants[operation.source]), "constant channel")
    idle = _number(there & ~needed, "input")
    reasons = []
    if not live.any():
        reasons.append(f"keeps one of its {len(live)} units at zero, since a layer needs at least "
                       "one")
    if still and operation.target not in read.outputs:
        reasons.append(f"keeps {still}, since the next layer cannot add it to a bias")
    if border:
        reasons.append(f"keeps {border} of its input, since zero padding makes its border differ")
    if idle and part.before is None:
        reasons.append(f"keeps {idle} without connection of {there.sum()}, which only gathering "
                       "the others would remove")
    return reasons


def _left_of_channelwise(operation: Channelwise, found: Analysis) -> list[str]:
    if len(operation.sources) > 1:
        return []
    before = found.constants[operation.sources[0]][operation.origins[0]]
    lost = _number(~np.isnan(before) & np.isnan(found.constants[operation.target])
                   & found.live[operation.target], "constant channel")
    return [f"keeps {lost}, since its output differs between positions"] if lost else []


def _number(chosen: Flags, what: str) -> str:
    count = int(chosen.sum())
    return f"{count} {what}{'s' * (count > 1)}" if count else ""
