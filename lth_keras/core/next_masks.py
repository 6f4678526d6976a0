"""The core step of every search: from the trained network of a level to the start of the next.

    scores  = criterion(theta, trained, rng)     for every prunable weight
    masks   = the lowest scores pruned           in each weight's structure
    weights = theta_k                            to which survivors are rewound

(Frankle & Carbin, ICLR 2019, section 1.)  `lth run`, `Search` and the callback all call this step;
they differ in how they train, and in what they do with the arrays.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from lth_keras.core import criteria, fractions
from lth_keras.core.fractions import Fraction, Prunable
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.pruning import prune, Scope
from lth_keras.core.structures.single_weights import NONE
from lth_keras.core.structures.structure import check_structures, Structure

Provided = Mapping[str, Callable[[], Arrays]]  # Need -> computes an array for each weight name.


@dataclasses.dataclass(frozen=True, eq=False)
class PruningRule:
    """The settings that decide which weights a search prunes.

    Attributes:
      criterion: scores the weights.
      fractions: weight name -> share of the remaining weights that a round prunes, in [0, 1).
      structures: weight name -> structure in which the weight is pruned.
      scope: "layer" or "global": among which weights scores are compared; see `core.pruning`.
      rounds: how many times the network is pruned altogether.

    Example:
      >>> rule = PruningRule.of([Prunable("a/kernel", "a", "Dense")], {"a/kernel": (2, 2)},
      ...                       fraction=0.5)
      >>> theta, trained = np.eye(2), np.array([[3.0, 1.0], [2.0, 4.0]])
      >>> weights, masks = rule.next_start({"a/kernel": theta}, {"a/kernel": np.ones((2, 2))},
      ...                                  {"a/kernel": trained}, np.random.default_rng(0))
      >>> masks["a/kernel"]
      array([[1, 0],
             [0, 1]], dtype=uint8)
      >>> weights["a/kernel"] is theta
      True
    """

    criterion: criteria.Criterion
    fractions: Mapping[str, float]
    structures: Mapping[str, Structure]
    scope: Scope = "layer"
    rounds: int = 1

    @classmethod
    def of(cls, weights: Sequence[Prunable], shapes: Mapping[str, tuple[int, ...]], *,
           fraction: Fraction, criterion: criteria.CriterionLike = "magnitude",
           structures: "Mapping[str, Structure] | None" = None, scope: Scope = "layer",
           rounds: int = 1, provided: Collection[str] = (),
           caller: str = "A search") -> "PruningRule":
        """Makes the rule of a search over given weights, and checks it before any training.

        Args:
          weights: the prunable weights.
          shapes: weight name -> shape.
          fraction: a number in [0, 1), or a mapping by layer; see `core.fractions`.
          criterion: a registered name or a function; see `core.criteria`.
          structures: weight name -> structure. Defaults to pruning single weights.
          scope: "layer" or "global".
          rounds: how many times the network will be pruned, >= 0.
          provided: the needs of a criterion that the caller can meet; see `criteria.NEEDS`.
          caller: the name of the search, for messages.

        Raises:
          LotteryError: if an entry of `fraction` matches no weight or a weight matches no entry,
            if the criterion is unknown or needs what is not provided, or if a weight cannot be
            pruned in its structure.
        """
        resolved = fractions.resolve(fraction, weights)
        # All checks are here, before training, where an error costs nothing.
        structures = structures or dict.fromkeys(resolved, NONE)
        check_structures(structures, shapes, resolved, scope, rounds)
        criterion = criteria.check_needs(criterion, provided, caller)
        return cls(criterion, resolved, structures, scope, rounds)

    def next_start(self, theta: Arrays, masks: Arrays, trained: Arrays, rng: np.random.Generator,
                   *, level: int = 0, survivors: "Arrays | None" = None,
                   provided: "Provided | None" = None) -> tuple[Arrays, dict[str, Array]]:
        """Computes the weights and masks from which the next level starts.

        Args:
          theta: weight name -> array at step k of level 0, for every prunable weight.
          masks: weight name -> 0/1 array of the level that ends. Criteria that draw random numbers
            draw them in the order of this mapping.
          trained: weight name -> array at the end of the training whose weights are scored.
          rng: the generator of criteria that draw random numbers.
          level: the level of the network that was trained, >= 0.
          survivors: the weights to which survivors are reset. Defaults to `theta`; a search that
            does not rewind gives the trained weights.
          provided: need -> a function without arguments that computes it. It is called only if the
            criterion needs it.

        Returns:
          The weights, not masked, and weight name -> uint8 mask; each keeps only weights that the
          given mask keeps.

        Raises:
          LotteryError: if a score is NaN or has another shape than its weight, or if M:N sparsity
            has already been reached.
        """
        # What a criterion needs may cost a pass over the training data: computed only if needed,
        # and once for all weights.
        providers: Provided = {**(provided or {}), "mask": lambda: masks}
        needed = {need: providers[need]() for need in self.criterion.needs}
        scores = {name: self.criterion(theta[name], trained[name], rng, **{
            need: arrays[name] for need, arrays in needed.items()}) for name in masks}
        # level + 1: the structure's share of this round depends on which round it is.
        return theta if survivors is None else survivors, prune(
            scores, masks, self.fractions, self.scope, self.structures,
            level=level + 1, rounds=self.rounds)
