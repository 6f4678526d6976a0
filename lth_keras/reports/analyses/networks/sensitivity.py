"""Sensitivity: accuracy against the pruned share of one layer, each layer alone.

From the trained dense network, a share of one layer's weights (blocks, filters) is pruned as the
run prunes, and the network is evaluated without retraining, all other layers whole.  Layers whose
accuracy falls early should keep more (Li et al., ICLR 2017, arXiv:1608.08710, section 3.2 and
figure 2b, who choose the fraction of each stage by it; Han et al., NeurIPS 2015, arXiv:1506.02626,
section 4).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lth_keras.core import unit_criteria
from lth_keras.core.fractions import Prunable
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.next_masks import Provided, PruningRule
from lth_keras.core.seeding import generator
from lth_keras.core.structures.coupled import UnitGroup
from lth_keras.core.structures.filters import Filters
from lth_keras.core.structures.structure import Structure
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.trainings import chain
from lth_keras.reports.analyses.analysis import Analysis, WorkdirReader
from lth_keras.reports.analyses.networks.network import check_dense_kept, Network, theta_k
from lth_keras.reports.plots import analysis_figures

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_WHOLE = 1.0  # No layer pruned: all multiply-adds are left.


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A layer, or a group of layers whose filters are pruned together, which is pruned alone.

    Attributes:
      name: its name in the table: of a group the first layer's, and how many more there are.
      layers: the names of its layers.
      pruned: the names of the weights whose share is pruned.
      structures: weight name -> structure, for all weights that masks change: of filters also
        biases, normalisations and what the next layers read.
    """

    name: str
    layers: tuple[str, ...]
    pruned: tuple[str, ...]
    structures: Mapping[str, Structure]

    def masks(self, rule: PruningRule, share: float, *, theta: Arrays, trained: Arrays,
              rng: np.random.Generator, provided: "Provided | None" = None) -> dict[str, Array]:
        """Prunes a share of this layer, and nothing else.

        Args:
          rule: the run's; its criterion and scope are used.
          share: the share of the layer's weights (blocks, filters), in (0, 1).
          theta: name -> array at theta_k, for every weight.
          trained: name -> array of the trained dense network, for every weight.
          rng: the generator of criteria that draw random numbers.
          provided: what the criterion can need.

        Returns:
          Weight name -> uint8 mask, for the weights of `structures`.
        """
        alone = dataclasses.replace(rule, fractions=dict.fromkeys(self.pruned, share),
                                    structures=self.structures, rounds=1)
        dense = {name: np.ones(trained[name].shape, np.uint8) for name in self.structures}
        return alone.next_start(theta, dense, trained, rng, provided=provided)[1]


def layers(network: Network, shapes: Mapping[str, tuple[int, ...]]
           ) -> tuple[list[Layer], dict[str, str]]:
    """Returns the layers that can be pruned alone, in the order of the model.

    Args:
      network: the network; layers that the run leaves dense by a fraction of 0 are among them.
      shapes: weight name -> shape, for every weight.

    Returns:
      The layers, and layer name -> why it cannot be pruned as the run prunes, for the others.

    Raises:
      LotteryError: if the structure prunes a fixed share of a layer, as M:N sparsity does.
    """
    rule = network.rule
    fixed = next((each for each in rule.structures.values() if each.by_rounds), None)
    if fixed:
        raise LotteryError("Sensitivity needs a structure in which any share of a layer can be "
                           f"pruned. Received: structure={fixed}, which prunes a fixed share.")
    found: list[Layer] = []
    left: dict[str, str] = {}
    for layer in _of_filters(rule, network.prunable) if rule.groups else \
            _of_weights(rule, network.prunable):
        reason = _why_not(layer, network, shapes)
        if reason:
            left[layer.name] = reason
        else:
            same = sum(layer.name == other.name.partition(" (")[0] for other in found)
            found.append(dataclasses.replace(layer, name=f"{layer.name} ({same + 1})")
                         if same else layer)
    return found, left


def _of_weights(rule: PruningRule, prunable: Mapping[str, Prunable]) -> Iterator[Layer]:
    names: dict[str, list[str]] = {}
    for name, weight in prunable.items():
        names.setdefault(weight.called.path, []).append(name)
    for layer, own in names.items():
        yield Layer(layer, (layer,), tuple(own), {name: rule.structures[name] for name in own})


def _of_filters(rule: PruningRule, prunable: Mapping[str, Prunable]) -> Iterator[Layer]:
    order = {name: place for place, name in enumerate(prunable)}

    def place(group: UnitGroup) -> int:
        return min(order[member.weight] for member in group.filters)
    for group in sorted(rule.groups, key=place):
        more = len(group.layers) - 1
        # Only the group's own weights and units, so that others need no masks and no fractions.
        yield Layer(f"{group.layers[0]} +{more}" if more else group.layers[0], group.layers,
                    tuple(dict.fromkeys(member.weight for member in group.filters)),
                    dict.fromkeys((name for name in order if name in group.weights),
                                  Filters.of([group])))


def _why_not(layer: Layer, network: Network, shapes: Mapping[str, tuple[int, ...]]) -> str:
    # What the run prunes was checked before it began; what it leaves dense was not.
    rule = network.rule
    for name in layer.pruned:
        structure, axes = layer.structures[name], network.prunable[name].axes
        if structure.by_axes and axes:
            return f"{structure} needs inputs and outputs, and it is {axes}"
        if not structure.fits(tuple(shapes[name])):
            return f"{structure} needs {structure.needs}"
    groups = [group for structure in layer.structures.values() if isinstance(structure, Filters)
              for group in structure.groups][:1]
    try:
        unit_criteria.check_scores(rule.criterion, groups, shapes)
    except LotteryError:
        return f"{rule.criterion.name} cannot score it"
    return ""


def analyse(run: WorkdirReader, load: Callable[[], Network],
            replicates: "Iterable[int] | None" = None, shares: Sequence[float] = SHARES,
            track: Callable[[list[Layer]], Iterable[Layer]] = iter) -> Analysis:
    """Measures the sensitivity of every layer of a run's trained dense network.

    Args:
      run: the workdir.
      load: makes the run's network; called once it is known that its weights were kept.
      replicates: whose dense networks to prune. Defaults to the first that has one.
      shares: the shares of a layer to prune, each in (0, 1).
      track: wraps the list of layers of each replicate, to show a progress bar.

    Raises:
      WorkdirError: if the trained weights of a dense network were not kept.
      LotteryError: if a share lies outside (0, 1), or the structure prunes a fixed share.
    """
    run.check_trained("Sensitivity")
    shares = sorted(set(shares))
    if not shares or not all(0 < share < 1 for share in shares):
        raise LotteryError("Shares of a layer must lie in (0, 1), at least one. Received: "
                           f"{', '.join(f'{share:g}' for share in shares) or 'none'}.")
    dense = {replicate: chain(run.config, replicate, 0)
             for replicate in (run.replicates[:1] if replicates is None else replicates)}
    check_dense_kept("Sensitivity", run, dense)
    network = load()
    rows: list[dict[str, Any]] = []
    for replicate, training in dense.items():
        kept = run.trained(training)
        assert kept is not None
        found, left = layers(network, {name: np.shape(value)
                                       for name, value in kept.weights.items()})
        rows += _measures(run, network, replicate, trained=kept.weights, found=track(found),
                          shares=shares)
    table = pd.DataFrame(rows)
    title = f"{run.title}: sensitivity of layers"
    return Analysis(title, table, ("layer", "share"), {"test_accuracy": ".1%"}, {},
                    analysis_figures.sensitivity_figure(table, title),
                    tuple(_notes(network, table, found, left)), across="share")


def _measures(run: WorkdirReader, network: Network, replicate: int, *, trained: Arrays,
              found: Iterable[Layer], shares: Sequence[float]) -> Iterator[dict[str, Any]]:
    config, theta = run.config, theta_k(run, replicate)
    # In the model's order, in which the run's own masks are.
    ones = {name: np.ones(trained[name].shape, np.uint8) for name in network.rule.structures}
    # Computed once for all layers and shares: each is a pass over the training data.
    provided = {need: functools.cache(compute) for need, compute in network.provided(
        replicate, theta, ones, trained).items()}
    whole = network.evaluate(trained)
    products = sum(uses * trained[name].size for name, uses in network.uses.items())
    for layer in found:
        for share in shares:
            # The same draws for every share, so that what a smaller share prunes stays pruned.
            masks = layer.masks(network.rule, share, theta=theta, trained=trained, rng=generator(
                config.seed, "criterion", replicate=replicate), provided=provided)
            pruned = {name: int(mask.size - np.count_nonzero(mask))
                      for name, mask in masks.items()}
            result = network.evaluate({**trained, **{
                name: np.multiply(trained[name], mask) for name, mask in masks.items()}})
            row = {"replicate": replicate, "layer": layer.name, "share": share,
                   "weights_pruned": sum(pruned.values())}
            if products:
                row["macs_left"] = _WHOLE - sum(
                    network.uses.get(name, 0) * count for name, count in pruned.items()) / products
            row |= {"test_accuracy": result["accuracy"],
                    "accuracy_lost": whole["accuracy"] - result["accuracy"]}
            yield {**row, **({"test_loss": result["loss"]} if "loss" in result else {})}


def _notes(network: Network, table: pd.DataFrame, found: Sequence[Layer],
           left: Mapping[str, str]) -> Iterator[str]:
    rule, whole = network.rule, (table.test_accuracy + table.accuracy_lost).mean()
    structure = str(next(iter(rule.structures.values())))
    what = "weights" if structure == "none" else structure
    yield (f"Test accuracy after a share of one layer's {what} is pruned by "
           f"{rule.criterion.name}, without retraining; all other layers are whole. Of the whole "
           f"network: {whole:.2%}.")
    middle = sorted(table.share.unique())[(table.share.nunique() - 1) // 2]
    lost = table[table.share == middle].groupby("layer", sort=False).accuracy_lost.mean()
    if len(lost) > 1:
        yield (f"With {middle:.0%} pruned, {lost.idxmax()} loses most "
               f"({lost.max() * 100:.2f} points) and {lost.idxmin()} least "
               f"({lost.min() * 100:.2f}).")
    for layer in found:
        if len(layer.layers) > 1:
            yield f"{layer.name}: pruned together are {', '.join(layer.layers)}."
    if left:
        yield "Left out: " + "; ".join(f"{name} ({reason})" for name, reason in left.items()) + "."
