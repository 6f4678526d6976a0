"""The core step: from a level's trained network to where the next level starts.

    scores  = criterion(theta, trained, rng)     of every prunable weight, with what it needs
    masks   = the lowest scores pruned           in each weight's structure
    weights = theta_k                            what survivors go back to

(Frankle & Carbin, ICLR 2019, section 1.)  `lth run`, `Search` and the callback prune by this one
step; they differ in how they train, and in what they do with the arrays.
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
    """What a search prunes by: which, how much, compared where, and in what structure.

    Attributes:
      criterion: scores a weight.
      fractions: weight name -> share of the remaining weights that a round prunes, in [0, 1).
      structures: weight name -> structure.
      scope: where scores are compared, see `core.pruning`.
      rounds: how many times the network is pruned in all.

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
        """The rule of a search over these weights, checked before anything is trained.

        Args:
          weights: the prunable weights.
          shapes: weight name -> shape.
          fraction: a number in [0, 1), or a mapping by layer; see `core.fractions`.
          criterion: a registered name or a function; see `core.criteria`.
          structures: weight name -> structure; by default any weight may be pruned.
          scope: "layer" or "global".
          rounds: how many times the network will be pruned, >= 0.
          provided: what the caller can provide to the criterion, see `criteria.NEEDS`.
          caller: who prunes, for messages.

        Raises:
          LotteryError: if a fraction covers no weight or leaves one out, if the criterion is
            unknown or needs what is not provided, or if a weight cannot be pruned in its structure.
        """
        resolved = fractions.resolve(fraction, weights)
        structures = structures or dict.fromkeys(resolved, NONE)
        check_structures(structures, shapes, resolved, scope, rounds)
        criterion = criteria.check_needs(criterion, provided, caller)
        return cls(criterion, resolved, structures, scope, rounds)

    def next_start(self, theta: Arrays, masks: Arrays, trained: Arrays, rng: np.random.Generator,
                   *, level: int = 0, survivors: "Arrays | None" = None,
                   provided: "Provided | None" = None) -> tuple[Arrays, dict[str, Array]]:
        """Where the next level starts: the weights, and the masks that prune them.

        Args:
          theta: weight name -> array at step k of level 0, for every prunable weight.
          masks: weight name -> 0/1 array of the level that ends.  Criteria that draw do so in
            the order of this mapping.
          trained: weight name -> array at the end of the training that is pruned by.
          rng: for criteria that draw.
          level: of the network that was trained, >= 0.
          survivors: the weights that survivors go back to, by default `theta`; the trained ones
            where a search does not rewind.
          provided: need -> a function of no arguments that computes it, called only for what the
            criterion needs.

        Returns:
          The weights, unmasked, and weight name -> uint8 mask, nested in the one given.

        Raises:
          LotteryError: if a score is NaN or not of its weight's shape, or if the structure is
            reached already.
        """
        providers: Provided = {**(provided or {}), "mask": lambda: masks}
        needed = {need: providers[need]() for need in self.criterion.needs}
        scores = {name: self.criterion(theta[name], trained[name], rng, **{
            need: arrays[name] for need, arrays in needed.items()}) for name in masks}
        return theta if survivors is None else survivors, prune(
            scores, masks, self.fractions, self.scope, self.structures,
            level=level + 1, rounds=self.rounds)
