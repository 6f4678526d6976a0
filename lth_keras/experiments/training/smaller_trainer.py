"""Trains networks without their pruned filters, so that a level costs what is left of the network.

A network whose filters are pruned computes what the network without them computes
(`graph.coupling`), and so does its training, up to rounding: pruned weights get no gradient.  What
is trained is therefore the smaller network.  Its weights are those of the whole network less the
pruned ones, and go back to their places afterwards: tickets are of the whole network.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core.fractions import Prunable
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.structures.coupled import grown, kept_units, shrunk, spread_units
from lth_keras.core.structures.filters import Filters
from lth_keras.core.structures.structure import Structure
from lth_keras.experiments.training.network_trainer import NetworkTrainer, OnInterval, Stopwatch
from lth_keras.experiments.training.spec import Trained, TrainingSpec
from lth_keras.initial.scored_model import ScoredModel

_KEPT = 4  # So many compiled programs of smaller networks are kept, the last ones that were used.


class SmallerTrainer(NetworkTrainer):
    """Trains each network without the filters that its masks prune.

    Args:
      whole: what trains the whole network, pruned in the structure "filters".
    """

    def __init__(self, whole: NetworkTrainer):
        self.whole = whole
        structure = next(iter(whole.structures.values()))
        assert isinstance(structure, Filters)
        self._groups = structure.groups
        self.prunable: Mapping[str, Prunable] = whole.prunable
        self.shapes: Mapping[str, tuple[int, ...]] = whole.shapes
        self.structures: Mapping[str, Structure] = whole.structures
        self.together: int = whole.together
        self.provenance: Mapping[str, Any] = whole.provenance
        # By how many units each group keeps: which ones makes no difference to the program.
        self._smaller: collections.OrderedDict[tuple[int, ...], NetworkTrainer] = \
            collections.OrderedDict()

    def initial_weights(self, rng: np.random.Generator) -> dict[str, Array]:
        return self.whole.initial_weights(rng)

    def stopwatch(self, spec: TrainingSpec) -> Stopwatch:
        return self.whole.stopwatch(spec)

    def loss_gradient(self, weights: Arrays, masks: Arrays, indices: Array) -> dict[str, Array]:
        return self.whole.loss_gradient(weights, masks, indices)

    def activations(self, weights: Arrays, masks: Arrays, indices: Array) -> dict[str, Array]:
        return self.whole.activations(weights, masks, indices)

    def train(self, specs: Sequence[TrainingSpec], on_interval: OnInterval) -> list[Trained]:
        alike: dict[tuple[int, ...], list[int]] = {}
        for place, spec in enumerate(specs):
            alike.setdefault(self._counts(spec.masks), []).append(place)
        results: dict[int, Trained] = {}
        for counts, places in alike.items():
            def ended(number: int, steps: int, places: Sequence[int] = places) -> None:
                on_interval(places[number], steps)
            found = self._train(counts, [specs[place] for place in places], ended)
            results.update(zip(places, found, strict=True))
        return [results[place] for place in range(len(specs))]

    def scored_model(self, weights: Arrays) -> ScoredModel:
        return self.whole.scored_model(weights)

    def smaller(self, counts: Sequence[int]) -> NetworkTrainer:
        return self.whole.smaller(counts)

    def uses(self) -> Mapping[str, float]:
        return self.whole.uses()

    def _counts(self, masks: Arrays) -> tuple[int, ...]:
        # () of masks that are not made of whole filters, which the whole network is trained with.
        units = kept_units(self._groups, masks)
        dense = {name: np.ones_like(mask) for name, mask in masks.items()}
        whole = spread_units(self._groups, units, dense)
        if not all(np.array_equal(whole[name], mask != 0) for name, mask in masks.items()):
            return ()
        return tuple(int(kept.sum()) for kept in units)

    def _train(self, counts: tuple[int, ...], specs: Sequence[TrainingSpec],
               on_interval: OnInterval) -> list[Trained]:
        if not counts or counts == tuple(group.size for group in self._groups):
            return self.whole.train(specs, on_interval)
        trainer = self._trainer(counts)
        if trainer is self.whole:
            return self.whole.train(specs, on_interval)
        kept = [kept_units(self._groups, spec.masks) for spec in specs]
        small = [dataclasses.replace(spec, masks={}, weights=shrunk(
            self._groups, units, spec.weights)) for spec, units in zip(specs, kept, strict=True)]
        return [self._in_place(trained, units, spec) for trained, units, spec in zip(
            trainer.train(small, on_interval), kept, specs, strict=True)]

    def _trainer(self, counts: tuple[int, ...]) -> NetworkTrainer:
        if counts not in self._smaller:
            if len(self._smaller) == _KEPT:
                self._smaller.popitem(last=False)
            made = self.whole.smaller(counts)
            # Layers of a model within the model become its own, whose weights have other names:
            # such a network is trained under its masks.
            same = made.uses().keys() == self.whole.uses().keys()
            self._smaller[counts] = made if same else self.whole
        self._smaller.move_to_end(counts)
        return self._smaller[counts]

    def _in_place(self, trained: Trained, units: Sequence[Array], spec: TrainingSpec) -> Trained:
        def whole(weights: Arrays) -> dict[str, Array]:
            return grown(self._groups, units, weights, spec.weights)
        return dataclasses.replace(
            trained, weights=whole(trained.weights),
            rewound=None if trained.rewound is None else whole(trained.rewound))
