"""`lth.EarlyBird`: ends a round of a search as soon as the mask that it would give settles.

Which weights survive is often decided long before their training ends (You et al., ICLR 2020,
arXiv:1909.11957): after each epoch the mask is drawn that pruning now would give, and when the last
few of them hardly differ, training on would give the same ticket.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lth_keras import providers
from lth_keras.arguments import check_choice, check_number, check_whole, given
from lth_keras.core import criteria, unit_criteria
from lth_keras.core.masks import Array, Arrays, distance
from lth_keras.core.pruning import Scope, SCOPES
from lth_keras.core.structures.coupled import kept_units
from lth_keras.errors import LotteryError
from lth_keras.search.fit.hooks import Hooks
from lth_keras.search.search import Search

_COLUMNS = ("level", "epoch", "other", "hamming", "jaccard", "distance")


def _never() -> bool:
    return False


class EarlyBird(Hooks):
    """A round callback that ends a round when the mask that pruning now would give has settled.

    After each epoch it compares this mask with those of the epochs before.  Two masks that keep a
    share d of the weights differ by chance in 2 d (1 - d) of them, which is less than a tenth at
    d = 0.05: so their Hamming distance is divided by that of random masks that keep as many weights
    in each layer.  0 means equal masks, 1 no more in common than by chance.

    The last level is trained to its end, since it is not pruned.

    Args:
      patience: how many masks are compared, the newest with all others, >= 2.
      threshold: the largest distance at which they count as one mask, in [0, 1]: a share of the
        distance by chance. The default is the paper's, whose 0.1 is of the Hamming distance
        itself, with half of the filters kept.
      density: share of the level's weights that the mask keeps, in (0, 1). Defaults to what the
        search's `fraction` leaves; the search prunes by that in any case.
      criterion, scope: by what the mask is drawn. Default to those of the search.

    Attributes:
      pairs: a pandas DataFrame with a row for each two masks that were compared: level, epoch and
        other (counted in the round, from 1), hamming (the share of weights that one of them keeps
        and the other does not), jaccard (the same among those that at least one keeps) and
        distance (relative to chance).  Where filters are pruned, of filters.  Weights that the
        level has not are left out.
      history: a row for each epoch with the largest of each, and settled.

    Raises:
      LotteryError: if a value is outside its range.

    Example:
      >>> import numpy as np
      >>> import tf_keras as keras
      >>> import lth_keras as lth
      >>> keras.utils.set_random_seed(0)
      >>> model = lth.prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((4,)), keras.layers.Dense(10), keras.layers.Dense(1)]))
      >>> model.compile(keras.optimizers.SGD(1e-5), "mse")  # Hardly moves: settles at once.
      >>> bird = EarlyBird(patience=3)
      >>> lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=9, verbose=0,
      ...                                     round_callbacks=[bird])
      >>> history = model.fit(np.ones((8, 4)), np.ones(8), epochs=lottery.epochs,
      ...                     callbacks=[lottery], verbose=0)
      >>> lottery.results.epochs.tolist(), bird.history.distance.tolist()
      ([3, 9], [0.0, 0.0])
    """

    def __init__(self, patience: int = 5, threshold: float = 0.2, *,
                 density: "float | None" = None,
                 criterion: "criteria.CriterionLike | None" = None, scope: "Scope | None" = None):
        self.patience = check_whole("patience", patience, 2)
        self.threshold = check_number("threshold", threshold)
        if not 0 <= self.threshold <= 1:
            raise LotteryError(f"threshold must be in [0, 1]. Received: {threshold!r}.")
        if density is not None and not 0 < check_number("density", density) < 1:
            raise LotteryError(f"density must be in (0, 1). Received: {density!r}.")
        self.density = density
        if scope is not None:
            check_choice("scope", scope, SCOPES)
        self._rule = given(scope=scope, criterion=None if criterion is None else
                           criteria.check_needs(criterion, (), "EarlyBird"))
        self._search: Search | None = None
        self._is_last: Callable[[], bool] = _never
        self._begin()

    def _begin(self) -> None:
        self._level, self._epoch = -1, 0
        # Plain values and arrays, which a workdir keeps: the last masks of this round, as bits.
        self._recent: list[npt.NDArray[np.uint8]] = []
        self._pairs: list[dict[str, Any]] = []

    def watch(self, search: Search, is_last: Callable[[], bool] = _never) -> None:
        """Receives the search whose rounds it is to end, and forgets an earlier one.

        Args:
          search: the search.
          is_last: says whether the level in training will not be pruned.

        Raises:
          LotteryError: if the structure or the filters cannot be pruned by `density` or
            `criterion`.
        """
        structures = {*search.rule.structures.values()}
        if self.density is not None and any(each.by_rounds for each in structures):
            raise LotteryError("EarlyBird's density is of structures of which a round prunes a "
                               f"fraction. Received: density={self.density} with structure="
                               f"{', '.join(map(str, structures))}. Leave it out.")
        for structure in structures:
            unit_criteria.check(self._rule.get("criterion", search.rule.criterion), structure)
        self._search, self._is_last = search, is_last
        self._begin()

    @property
    def pairs(self) -> pd.DataFrame:
        """A row for each two masks that were compared."""
        return pd.DataFrame(self._pairs, columns=list(_COLUMNS))

    @property
    def history(self) -> pd.DataFrame:
        """A row for each epoch that had another before it, with the largest distances."""
        by_epoch = self.pairs.groupby(["level", "epoch"])
        found = by_epoch[["hamming", "jaccard", "distance"]].max()
        compared = by_epoch.size() == self.patience - 1
        return found.assign(settled=compared & (found.distance <= self.threshold)).reset_index()

    def plot(self, path: "str | os.PathLike[str]") -> pathlib.Path:
        """Draws the distances of each epoch, and a matrix of the masks that were compared.

        With `patience` as long as a round no round ends early, and the matrices are whole.

        Args:
          path: the PNG to write; missing folders are created.

        Raises:
          LotteryError: if no two masks were compared yet.
          OSError: if the file cannot be written.

        Example:
          bird.plot("early_bird.png")  # After `fit`.
        """
        path_of: pathlib.Path = providers.provider(providers.EARLY_BIRD_FIGURE)(
            self.pairs, self.history, self.threshold, path)
        return path_of

    def settles(self, search: Search) -> bool:
        """Compares the mask that pruning now would give; call it yourself in a loop of your own.

        Args:
          search: the search, whose model has just been trained for an epoch.

        Returns:
          Whether the last `patience` masks of this level hardly differ.

        Example:
          >>> import tf_keras as keras
          >>> import lth_keras as lth
          >>> model = lth.prune_low_magnitude(keras.Sequential([
          ...     keras.layers.Input((4,)), keras.layers.Dense(10)]))
          >>> model.compile("sgd", "mse")
          >>> search, bird = lth.Search(model), EarlyBird(patience=2)
          >>> [bird.settles(search) for epoch in range(2)]  # With training before each.
          [False, True]
        """
        if search is not self._search:
            self.watch(search)
        if search.level != self._level:
            self._next_level(search.level)
        self._epoch += 1
        now, among = self._masks(search)
        flat = np.concatenate([np.ravel(mask) for mask in now.values()]) != 0
        found = [distance(now, _unpacked(bits, now), among) for bits in reversed(self._recent)]
        self._pairs = [*self._pairs, *({
            "level": self._level, "epoch": self._epoch, "other": self._epoch - back,
            "hamming": each.hamming, "jaccard": each.jaccard, "distance": each.relative}
            for back, each in enumerate(found, 1))]
        self._recent = [*self._recent, np.packbits(flat)][1 - self.patience:]
        return len(found) == self.patience - 1 and \
            max(each.relative for each in found) <= self.threshold

    def _next_level(self, level: int) -> None:
        self._level, self._epoch, self._recent = level, 0, []

    def _masks(self, search: Search) -> tuple[Arrays, Arrays]:
        # What pruning now would keep, and what it would choose from: weights, or filters.
        rule = dataclasses.replace(search.rule, **self._rule)
        if self.density is not None:
            rule = dataclasses.replace(rule, fractions={
                name: 1 - self.density if share else 0.0 for name, share in rule.fractions.items()})
        masks = search.next_masks(rule)
        if not rule.groups:
            return masks, search.masks
        names = [", ".join(group.layers) for group in rule.groups]
        now, among = (dict(zip(names, kept_units(rule.groups, of), strict=True))
                      for of in (masks, search.masks))
        return now, among

    # Keras' hooks.

    def on_train_begin(self, logs: Any = None) -> None:
        if self._search is None:
            raise LotteryError("EarlyBird ends a round of a search, and so belongs in its "
                               "round_callbacks: LotteryTicketCallback(round_callbacks=[EarlyBird()"
                               "]). Received: a fit without one.")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        search = self._search
        # Before theta_k a round cannot end; weights that are not finite end the search.
        if search is None or not search.has_theta or self._is_last() or search.not_finite():
            return
        if search.level != self._level:
            self._next_level(search.level)
        self._epoch = epoch  # Those before theta_k count too.
        if self.settles(search):
            self.model.stop_training = True  # Which ends the round only.

    def _implements_train_batch_hooks(self) -> bool:
        return False

    def _implements_test_batch_hooks(self) -> bool:
        return False

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle keeps: the settings and what was found, not the model."""
        return {**vars(self), "model": None, "_search": None, "_is_last": _never}


def _unpacked(bits: "npt.NDArray[np.uint8]", like: Arrays) -> dict[str, Array]:
    sizes = [np.size(mask) for mask in like.values()]
    flat = np.split(np.unpackbits(bits, count=sum(sizes)), np.cumsum(sizes)[:-1])
    return {name: part.reshape(np.shape(mask))
            for (name, mask), part in zip(like.items(), flat, strict=True)}
