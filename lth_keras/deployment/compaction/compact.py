"""Compaction: removes units, channels and inputs without connections from a pruned model, exactly.

A pruned network is a smaller dense network with the same predictions, to float rounding.  A unit
that no surviving connection leads to has one value, which becomes part of the biases that it
feeds; a unit that none leads from has no effect.  This goes on, forwards and backwards, until
nothing more can be removed.
"""

import dataclasses
from typing import Any

import numpy as np
import tf_keras as keras
from tf_keras.src.engine.functional import Functional

from lth_keras.deployment.compaction import channels, model_graph, rebuild
from lth_keras.deployment.compaction.channels import Analysis, Channelwise, Flags, Linear
from lth_keras.deployment.compaction.model_graph import Graph
from lth_keras.deployment.compaction.rebuild import Part
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import is_graph, wrappers
from lth_keras.keras2.masking.wrap import strip_pruning


@dataclasses.dataclass(frozen=True, eq=False)
class Compacted:
    """A compacted model, and what was done to it.

    Attributes:
      model: the smaller model, not compiled.
      removed: layer name -> (units before, units after), for layers with fewer units or filters.
      inputs: layer name -> (inputs before, inputs after), for layers that read only a part
        of their input.
      left: sentences that say what could not be removed exactly, and why.
      weights: (before, after) the numbers of weights, biases and statistics included.
    """

    model: Any
    removed: dict[str, tuple[int, int]]
    inputs: dict[str, tuple[int, int]]
    left: tuple[str, ...]
    weights: tuple[int, int]

    def summary(self) -> str:
        """All of it as text, a line each."""
        before, after = self.weights
        return "\n".join([
            f"{before:,} weights before, {after:,} after ({after / max(before, 1):.1%})",
            *(f"  {name}: {old} units -> {new}" for name, (old, new) in self.removed.items()),
            *(f"  {name}: {old} inputs -> {new}" for name, (old, new) in self.inputs.items()),
            *(f"  left: {sentence}" for sentence in self.left)])


def compact(model: Any, take_inputs: bool = False) -> Compacted:
    """Removes the units, channels and inputs of a pruned model that have no connections.

    Of a unit that no surviving connection leads to, activation, normalisation and pooling make
    a constant, which goes into the next layer's bias (one that had none gets one).  Channels
    that a residual addition joins are removed together or not at all.  Where constants meet the
    zeros around an image, one channel stands for all of them.  What cannot be removed exactly
    stays, and `left` says why.

    Args:
      model: a built tf_keras model, wrapped for pruning or not.  It is not changed, but for what
        `strip_pruning` does to a wrapped one.
      take_inputs: whether a layer may read a part of its input by a `GatherFeatures`, where inputs
        without connections cannot be removed upstream, such as pixels.  The kernel gets
        smaller, but gathering costs time.

    Returns:
      The new model, a plain Sequential or functional one of the same inputs, outputs and names
      of layers, and what was done.  Layers of kinds that are not known here, and models within
      the model, are shared with the one given.  A subclassed model, whose code is its graph, is
      returned as it is.

    Raises:
      LotteryError: if `model` is no tf_keras model, or is not built.

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
    _check(model)
    reason = _not_rebuildable(model)
    if reason:
        count = model.count_params()
        return Compacted(model, {}, {}, (reason,), (count, count))
    bare = strip_pruning(model) if wrappers(model) else model
    read = model_graph.read(bare)
    found = channels.analyse(read.widths, read.operations)
    done: dict[int, Part] = {}
    for node, operation in zip(read.nodes, read.operations, strict=False):
        if id(node.layer) not in done:
            done[id(node.layer)] = rebuild.part(node.layer, operation, found, take_inputs)
    parts = [done[id(node.layer)] for node in read.nodes]
    small = rebuild.rebuilt(bare, read, parts)
    removed, inputs = _sizes(read, found, parts)
    return Compacted(small, removed, inputs, tuple(_left(read, found, parts)),
                     (bare.count_params(), small.count_params()))


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model):
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        raise LotteryError("A tf_keras (Keras 2) model is needed: import tf_keras as keras. "
                           f"Received: {kind}.")
    if not model.built:
        raise LotteryError("A model must be built before it is compacted. Received: "
                           f"{type(model).__name__} without weights yet. Call it on a batch, "
                           "model(x), or call model.build(input_shape).")


def _not_rebuildable(model: Any) -> str:
    kind = type(model)
    if not is_graph(model) or not model.inputs:
        return (f"{model.name}: a subclassed model's code is its graph, so that it is left as it "
                "is")
    if kind.call not in (keras.Sequential.call, Functional.call):
        return f"{model.name}: {kind.__name__} has a call of its own, so that it is left as it is"
    return ""


def _sizes(read: Graph, found: Analysis, parts: list[Part]) -> tuple[dict[str, tuple[int, int]],
                                                                     dict[str, tuple[int, int]]]:
    removed, inputs = {}, {}
    for node, operation, part in zip(read.nodes, read.operations, parts, strict=False):
        if isinstance(operation, (Linear, Channelwise)) and part.weights:
            kept = found.kept[operation.target]
            if not kept.all() and not isinstance(node.layer, (keras.layers.BatchNormalization,
                                                              keras.layers.PReLU)):
                removed[node.layer.name] = (len(kept), int(kept.sum()))
        if isinstance(operation, Linear) and part.positions is not None:
            inputs[node.layer.name] = (read.widths[operation.source], len(part.positions))
    return removed, inputs


def _left(read: Graph, found: Analysis, parts: list[Part]) -> list[str]:
    left = [f"{name}: {reason}, so that its channels stay" for name, reason in read.left.items()]
    for node, operation, part in zip(read.nodes, read.operations, parts, strict=False):
        if isinstance(operation, Linear):
            reasons = _left_of_linear(read, operation, found, part)
        elif isinstance(operation, Channelwise):
            reasons = _left_of_channelwise(operation, found)
        else:
            continue
        left += [f"{node.layer.name}: {reason}" for reason in reasons]
    return left


def _left_of_linear(read: Graph, operation: Linear, found: Analysis, part: Part) -> list[str]:
    live, there = found.live[operation.target], found.kept[operation.source]
    needed = ~rebuild.unread(operation, found)
    still = _number(live & ~np.isnan(found.constants[operation.target]), "constant unit")
    border = _number(needed & ~np.isnan(found.constants[operation.source]), "constant channel")
    idle = _number(there & ~needed, "input")
    reasons = []
    if not live.any():
        reasons.append(f"needs none of its {len(live)} units, and keeps one, at zero, since a "
                       "layer has at least one")
    if still and operation.target not in read.outputs:
        reasons.append(f"keeps {still}, since what comes after it cannot add that to a bias")
    if border:
        reasons.append(f"keeps {border} of its input, since its padding makes a border")
    if idle and part.positions is None:
        reasons.append(f"keeps {idle} without connection of {there.sum()}, which only "
                       "gathering the others would remove")
    return reasons


def _left_of_channelwise(operation: Channelwise, found: Analysis) -> list[str]:
    if len(operation.sources) > 1:
        return []
    before = found.constants[operation.sources[0]][operation.origins[0]]
    lost = _number(~np.isnan(before) & np.isnan(found.constants[operation.target])
                   & found.live[operation.target], "constant channel")
    return [f"keeps {lost}, since its output varies with the place"] if lost else []


def _number(chosen: Flags, what: str) -> str:
    count = int(chosen.sum())
    return f"{count} {what}{'s' * (count > 1)}" if count else ""
