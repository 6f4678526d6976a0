"""The rounds of a search: how many, how long, and how much each of them prunes."""

from typing import Any

from lth_keras.arguments import check_whole
from lth_keras.core import fractions
from lth_keras.core.fractions import Fraction
from lth_keras.errors import LotteryError


class Rounds:
    """The rounds of a search for winning tickets.

    Args:
      rounds: how many times the network is pruned, >= 0; `rounds + 1` levels are trained.
      steps_per_round: length of a round in optimizer steps, >= 1, or
      epochs_per_round: length of a round in epochs, >= 1.  Give exactly one of the two.
      fraction: share of the remaining weights that a round prunes, in [0, 1), a mapping by layer,
        or a list by stage of filters; see `core.fractions`.

    Raises:
      LotteryError: if a value is outside its range, or neither or both lengths are given.

    Example:
      >>> Rounds(rounds=3, epochs_per_round=10, fraction=0.2).density(level=2)
      0.6400000000000001
    """

    def __init__(self, rounds: int, steps_per_round: int | None = None,
                 epochs_per_round: int | None = None, fraction: Fraction = 0.2):
        self.rounds = check_whole("rounds", rounds, 0)
        if (steps_per_round is None) == (epochs_per_round is None):
            raise LotteryError(
                "Exactly one of steps_per_round and epochs_per_round must be given. Received: "
                f"steps_per_round={steps_per_round!r}, epochs_per_round={epochs_per_round!r}.")
        self.steps_per_round = steps_per_round if steps_per_round is None \
            else check_whole("steps_per_round", steps_per_round, 1)
        self.epochs_per_round = epochs_per_round if epochs_per_round is None \
            else check_whole("epochs_per_round", epochs_per_round, 1)
        self.fraction = fractions.check(fraction)

    def density(self, level: int, fraction: float | None = None) -> float:
        """Returns the density after `level` prunings, in (0, 1]: (1 - fraction)^level.

        It is approximate: each round prunes a whole number of weights.

        Args:
          level: how many times the network has been pruned, >= 0.
          fraction: the fraction of one layer, if `self.fraction` is a mapping or a list.

        Raises:
          LotteryError: if `self.fraction` is a mapping or a list and no fraction is given.
        """
        if fraction is None:
            if not isinstance(self.fraction, float):
                raise LotteryError("density() needs the fraction of one layer if the schedule "
                                   f"has several. Received: {fractions.plain(self.fraction)}.")
            fraction = self.fraction
        return (1.0 - fraction) ** level

    def round_over(self, steps: int = 0, epochs: int = 0) -> bool:
        """Returns whether a round is over after this many steps and whole epochs."""
        if self.steps_per_round is not None:
            return steps >= self.steps_per_round
        return epochs >= (self.epochs_per_round or 0)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"rounds": self.rounds, "steps_per_round": self.steps_per_round,
                "epochs_per_round": self.epochs_per_round,
                "fraction": fractions.plain(self.fraction)}

    # By value: the callback compares its rounds with those of tfmot's wrappers, which a loaded
    # model has as copies.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rounds) and self.settings == other.settings

    def __hash__(self) -> int:
        return hash(repr(self.settings))

    def __repr__(self) -> str:
        given = {key: value for key, value in self.settings.items() if value is not None}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in given.items())})"
