"""The settings of a search in `fit`, and checks of them and of its model before any training."""

import copy
import dataclasses
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from lth_keras.arguments import check_choice, check_whole
from lth_keras.core import criteria
from lth_keras.core.pruning import Scope, SCOPES
from lth_keras.errors import LotteryError
from lth_keras.search import scoring
from lth_keras.search.network import Network
from lth_keras.search.rounds import Rounds
from lth_keras.search.target import Target

# Those first that say what to write.
_OF_TFMOT = ("target_sparsity", "final_sparsity", "initial_sparsity", "pruning_schedule",
             "begin_step", "end_step", "frequency", "power")

# Model -> the parameters of the last fit in which a search took part.
_FITS: "weakref.WeakKeyDictionary[Any, Mapping[str, Any]]" = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """The arguments of a search in `fit`; see LotteryTicketCallback."""

    schedule: Rounds
    rewind_step: int
    scope: Scope
    criterion: criteria.CriterionLike
    seed: int
    check: bool
    verbose: int
    facts: Mapping[str, Any]
    round_callbacks: Sequence[Any]
    workdir: "str | os.PathLike[str] | None"
    scoring_data: Any
    prunes: Mapping[str, Any]
    target: "Target | None" = None
    multiple_of: int = 1

    def without_model(self) -> "SearchSettings":
        """Copies them, with round callbacks that know no model, which cannot be pickled."""
        bare = []
        for callback in self.round_callbacks:
            bare.append(copy.copy(callback))
            vars(bare[-1])["model"] = None
        return dataclasses.replace(self, round_callbacks=tuple(bare))

    @property
    def takes_late_batches(self) -> bool:
        """Whether nothing has to be done at the end of a batch, so that Keras may report it late.

        What has to be done after a step can then wait for the next batch, or the epoch's end.
        """
        hooks = ("on_batch_end", "on_train_batch_end", "on_test_batch_end")
        return not self.check and self.schedule.steps_per_round is None and all(
            getattr(getattr(callback, hook, None), "_is_default", False)
            for callback in self.round_callbacks for hook in hooks)

    @property
    def provenance(self) -> dict[str, Any]:
        """The settings that are stored in the tickets."""
        return {"schedule": self.schedule.settings,
                "rewind_step": self.rewind_step,
                **({"until": dict(self.target.shares)} if self.target else {}), **self.facts}

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that must be the same to resume a search, as JSON values."""
        return {**self.provenance, **{name: str(value) for name, value in self.prunes.items()},
                "scope": self.scope, "seed": self.seed,
                **({"multiple_of": self.multiple_of} if self.multiple_of != 1 else {}),
                "criterion": criteria.name_of(self.criterion),
                "round_callbacks": [type(item).__name__ for item in self.round_callbacks]}


def schedule_of(schedule: Rounds | None, parts: Mapping[str, Any]) -> Rounds:
    """Returns the schedule, or makes it from its parts.

    Raises:
      LotteryError: if both or neither are given, or `rounds` is missing.

    Example:
      >>> schedule_of(None, {"rounds": 2, "epochs_per_round": 5, "fraction": None}).rounds
      2
    """
    if not (schedule is None or isinstance(schedule, Rounds)):
        raise LotteryError(
            "A search prunes at the end of each round, by a LotteryTicketSchedule or its parts: "
            "LotteryTicketCallback(rounds=10, epochs_per_round=5, fraction=0.2). Received: "
            f"{type(schedule).__name__}.")
    given = {name: value for name, value in parts.items() if value is not None}
    if (schedule is None) == (not given):
        received = f"schedule={schedule!r} and {given}" if given else "neither"
        raise LotteryError("Either schedule or its parts must be given, such as rounds=10, "
                           f"epochs_per_round=5. Received: {received}.")
    if schedule is None and "rounds" not in given:
        raise LotteryError(f"rounds must be given. Received: {given}.")
    return schedule or Rounds(**given)


def refuse_tfmots(arguments: Mapping[str, Any], rounds: "int | None" = None) -> None:
    """Refuses arguments of tfmot's pruning schedules, and says what to write instead.

    Args:
      arguments: arguments by name; others than tfmot's are passed over.
      rounds: the number of rounds, if it was given.

    Raises:
      LotteryError: if there is one.

    Example:
      >>> try:
      ...     refuse_tfmots({"target_sparsity": 0.9}, rounds=5)
      ... except LotteryError as error:
      ...     print(str(error).partition("Write ")[2])
      LotteryTicketCallback(rounds=5, epochs_per_round=5, fraction=0.369), which ends with 90% of \
the weights pruned.
    """
    for name in filter(arguments.__contains__, _OF_TFMOT):
        value, count, fraction, reached = arguments[name], rounds or 10, 0.2, ""
        if name.endswith("sparsity") and isinstance(value, float) and 0 < value < 1:
            fraction = 1 - (1 - value) ** (1 / count)
            reached = f", which ends with {value:.0%} of the weights pruned"
        raise LotteryError(
            "How much is pruned, and when, is said to the callback by rounds, their length and the "
            f"share of the remaining weights that each prunes. Received: {name}={value!r:.60}, as "
            f"tfmot takes it. Write LotteryTicketCallback(rounds={count}, epochs_per_round=5, "
            f"fraction={fraction:.3g}){reached}.")


def check_options(rewind_step: Any, scope: str, criterion: criteria.CriterionLike,
                  scoring_data: Any = None) -> None:
    """Checks the callback's options.

    Raises:
      LotteryError: if an option is not allowed, or scoring_data does not fit the criterion.

    Example:
      >>> check_options(rewind_step=500, scope="global", criterion="magnitude")
    """
    check_whole("rewind_step", rewind_step, 0)
    check_choice("scope", scope, SCOPES)
    criteria.check_needs(criterion, scoring.provided(scoring_data), "LotteryTicketCallback")
    scoring.check_used(criterion, scoring_data)


def check_alone(model: Any, params: Mapping[str, Any]) -> None:
    """Checks that a fit has one search.

    Args:
      model: the model of the fit, or None if it is not known yet.
      params: the parameters of the fit: Keras gives the same dict to all of its callbacks, and
        another one in each fit.

    Raises:
      LotteryError: if another callback of the fit has been here before.
    """
    if model is None or not params:
        return
    if _FITS.get(model) is params:
        raise LotteryError("A fit can have one LotteryTicketCallback: two would both prune its "
                           "model. Received: two in the callbacks of a fit. Leave one out.")
    _FITS[model] = params


def check_steps(network: Network, schedule: Rounds, rewind_step: int, steps: int | None) -> None:
    """Checks that Keras calls the callback at every step at which it must act.

    With steps_per_execution=100, Keras calls callbacks after every 100th step of an epoch only.

    Args:
      network: the compiled model, for its steps_per_execution.
      schedule: the schedule of the search.
      rewind_step: k of theta_k.
      steps: steps in an epoch, or None if Keras does not know them.

    Raises:
      LotteryError: if Keras would skip the end of a round or the rewind step, or does not say how
        many steps an epoch had, or the rewind step lies after the first round.
    """
    length = schedule.steps_per_round
    if length is None and steps is not None:
        length = steps * (schedule.epochs_per_round or 0)
    if length is not None and rewind_step >= length:
        raise LotteryError(f"rewind_step must lie inside the first round of {length} steps. "
                           f"Received: rewind_step={rewind_step}.")
    # Keras runs steps_per_execution steps in one call, but ends the last call of an epoch early.
    execution = network.steps_per_execution()
    if steps is None and (execution or 1) > 1:
        raise LotteryError(
            "With steps_per_execution, Keras must know how many batches an epoch has, or it does "
            "not say how many steps its last call took. Received: steps_per_execution="
            f"{execution}, and data of unknown length. Give fit steps_per_epoch=, or data that "
            "tells its length, or compile with steps_per_execution=1.")
    if execution is None and (schedule.steps_per_round is not None or rewind_step):
        raise LotteryError(
            "With steps_per_execution='auto', Keras may skip the end of a round. Received: "
            f"steps_per_execution='auto', steps_per_round={schedule.steps_per_round}, "
            f"rewind_step={rewind_step}. Count rounds in epochs with rewind_step=0, or compile "
            "with a number for steps_per_execution.")
    ends = [] if schedule.steps_per_round is None else \
        [schedule.steps_per_round * number for number in range(1, schedule.rounds + 2)]
    for name, moments in (("rewind_step", [rewind_step]), ("steps_per_round", ends)):
        for moment in moments:
            within = moment if steps is None else moment % steps
            if within % (execution or 1):
                every = "" if steps is None else f" in epochs of {steps} steps"
                raise LotteryError(
                    f"Keras calls callbacks every steps_per_execution={execution} steps{every}, so "
                    f"{name} must be a step at which it does. Received: "
                    f"{name}={moment if name == 'rewind_step' else schedule.steps_per_round}, "
                    f"which would act at step {moment}.")


def epochs_needed(schedule: Rounds, steps: int | None) -> int | None:
    """Returns the number of epochs of a whole search, or None if it depends on unknown data.

    Example:
      >>> epochs_needed(Rounds(rounds=2, steps_per_round=100), steps=50)
      6
    """
    if schedule.epochs_per_round is not None:
        return (schedule.rounds + 1) * schedule.epochs_per_round
    if steps is None:  # A data set of unknown length.
        return None
    return -(-(schedule.rounds + 1) * (schedule.steps_per_round or 0) // steps)


def check_epochs(schedule: Rounds, epochs: int, steps: int | None, done: int = 0,
                 whole: bool = True) -> None:
    """Checks that `fit` was given no more epochs than the search takes.

    Args:
      schedule: the schedule of the search.
      epochs: how many epochs this fit has.
      steps: how many batches an epoch has, or None if that is not known.
      done: how many epochs the search has had in earlier fits.
      whole: whether this fit must have all the rest: a search with a workdir is of one fit.

    Raises:
      LotteryError: if it was not.

    Example:
      >>> check_epochs(Rounds(rounds=2, epochs_per_round=5), epochs=15, steps=None)
    """
    # With too few epochs the search would end before its last level, after all of its training.
    needed = epochs_needed(schedule, steps)
    left = None if needed is None else needed - done
    if left is not None and (epochs != left if whole else epochs > left):
        raise LotteryError(
            f"epochs must be {left}{'' if whole else ' at most'}: the search trains "
            f"{schedule.rounds} rounds and a last level{f', {done} epochs so far' if done else ''}."
            f" Received: {epochs}. Pass epochs=lottery.epochs, or, if rounds are counted in "
            "steps, epochs=lottery.epochs_for(steps_per_epoch).")
