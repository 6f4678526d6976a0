"""Before a search in `fit`: whatever would stop it halfway is said at once."""

from collections.abc import Mapping
from typing import Any

from lth_keras.arguments import check_choice, check_whole
from lth_keras.core import criteria
from lth_keras.core.pruning import SCOPES
from lth_keras.errors import LotteryError
from lth_keras.keras2 import loss_gradient
from lth_keras.keras2.masking.masked_layer import MaskedLayer
from lth_keras.keras2.masking.schedule import LotteryTicketSchedule
from lth_keras.keras2.masking.weight_names import wrappers


def schedule_of(schedule: LotteryTicketSchedule | None,
                parts: Mapping[str, Any]) -> LotteryTicketSchedule:
    """The schedule given, or the one that its parts make.

    Raises:
      LotteryError: if both or neither are given, or the parts make none.
    """
    given = {name: value for name, value in parts.items() if value is not None}
    if (schedule is None) == (not given):
        raise LotteryError("Either a schedule or its parts must be given, such as rounds=10, "
                           f"epochs_per_round=5. Received: schedule={schedule!r}, {given}.")
    if schedule is None and "rounds" not in given:
        raise LotteryError(f"rounds must be given. Received: {given}.")
    return schedule or LotteryTicketSchedule(**given)


def check_options(rewind_step: Any, scope: str, criterion: criteria.CriterionLike,
                  scoring_data: Any = None) -> None:
    """The callback's options are of the values that they allow.

    Raises:
      LotteryError: if one is not.
    """
    check_whole("rewind_step", rewind_step, 0)
    check_choice("scope", scope, SCOPES)
    criteria.check_needs(criterion, loss_gradient.provided(scoring_data), "LotteryTicketCallback")
    loss_gradient.check_used(criterion, scoring_data)


def check_model(model: Any, schedule: LotteryTicketSchedule) -> None:
    """The model is wrapped, and tfmot's own wrappers follow the same schedule.

    Raises:
      LotteryError: if not.
    """
    found = wrappers(model)
    if not found:
        raise LotteryError("LotteryTicketCallback needs a wrapped model: "
                           "model = lth.prune_low_magnitude(model), then compile it. "
                           f"Received: {model.name!r}, in which no layer is wrapped.")
    for wrapper in found:
        masked = not isinstance(wrapper, MaskedLayer) or wrapper.linked
        if not (wrapper.built and masked):
            raise LotteryError("The model must be built before fit, so that theta_0 can be taken: "
                               "call it on one batch, or model.build(input_shape). Received: "
                               f"{wrapper.name!r} without weights yet.")
        if not isinstance(wrapper, MaskedLayer) and wrapper.pruning_schedule != schedule:
            raise LotteryError(
                "A model wrapped by tfmot must be given the callback's schedule, so that its own "
                "pruning keeps out of the way: tfmot.sparsity.keras.prune_low_magnitude(model, "
                "pruning_schedule=schedule) and LotteryTicketCallback(schedule). Received: "
                f"{wrapper.name!r} with {wrapper.pruning_schedule!r}, callback with {schedule!r}.")


def check_steps(model: Any, schedule: LotteryTicketSchedule, rewind_step: int,
                steps: int | None) -> None:
    """Every step at which the callback must act is one at which Keras calls it.

    Args:
      model: the compiled model, for its steps_per_execution.
      schedule: the search's rounds.
      rewind_step: k of theta_k.
      steps: steps an epoch, or None where Keras does not know them.

    Raises:
      LotteryError: if a round's end or the rewind step would be jumped over, or if the
        rewind step lies outside the first round.
    """
    length = schedule.steps_per_round
    if length is None and steps is not None:
        length = steps * (schedule.epochs_per_round or 0)
    if length is not None and rewind_step >= length:
        raise LotteryError(f"rewind_step must lie inside the first round of {length} steps. "
                           f"Received: rewind_step={rewind_step}.")
    if (schedule.steps_per_round is not None or rewind_step) \
            and getattr(model, "autotune_steps_per_execution", False):
        raise LotteryError(
            "Where Keras chooses how many steps an execution has, it may jump over a round's end: "
            "count rounds in epochs with rewind_step=0, or compile with a number. Received: "
            f"steps_per_execution='auto', steps_per_round={schedule.steps_per_round}, "
            f"rewind_step={rewind_step}.")
    execution = int(model._steps_per_execution.numpy()) if model._steps_per_execution is not None \
        else 1
    ends = [] if schedule.steps_per_round is None else \
        [schedule.steps_per_round * number for number in range(1, schedule.rounds + 2)]
    for name, moments in (("rewind_step", [rewind_step]), ("steps_per_round", ends)):
        for moment in moments:
            within = moment if steps is None else moment % steps
            if within % execution:
                every = "" if steps is None else f" in epochs of {steps} steps"
                raise LotteryError(
                    f"Keras calls back every steps_per_execution={execution} steps{every}, so "
                    f"{name} must be a step where it does. Received: "
                    f"{name}={moment if name == 'rewind_step' else schedule.steps_per_round}, "
                    f"which would act at step {moment}.")


def check_not_restored(model: Any) -> None:
    """No BackupAndRestore has put back the model of an interrupted fit.

    It keeps weights and masks, but neither theta_k nor the level that they belong to.

    Raises:
      LotteryError: if one has.
    """
    state = getattr(model, "_training_state", None)
    backups = getattr(state, "read_checkpoint_manager", None)
    if backups is not None and backups.latest_checkpoint:
        raise LotteryError(
            "A search cannot go on from a backup of BackupAndRestore, which has neither theta_k "
            f"nor the level. Received: a model restored from {backups.latest_checkpoint!r}. "
            "Delete the backup and start with a fresh model.")


def epochs_needed(schedule: LotteryTicketSchedule, steps: int | None) -> int | None:
    """The epochs that a whole search takes, or None where that cannot be known before."""
    if schedule.epochs_per_round is not None:
        return (schedule.rounds + 1) * schedule.epochs_per_round
    if steps is None:
        return None
    return -(-(schedule.rounds + 1) * (schedule.steps_per_round or 0) // steps)


def check_epochs(schedule: LotteryTicketSchedule, epochs: int, steps: int | None) -> None:
    """`fit` was given the number of epochs that the search takes.

    Raises:
      LotteryError: if not.
    """
    needed = epochs_needed(schedule, steps)
    if needed is not None and epochs != needed:
        raise LotteryError(
            f"epochs must be what the search takes: {schedule.rounds} rounds and a last training "
            f"make {needed} epochs; pass epochs=lottery.epochs, or "
            "lottery.epochs_for(steps_per_epoch) where rounds are counted in steps. "
            f"Received: {epochs}.")
