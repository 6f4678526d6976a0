"""Checks that the settings of a `Config` are allowed, alone and together.

Each check takes a `Config` and raises a LotteryError with the rule and the value received.  All
run when a `Config` is made, so that no wrong setting is found only after hours of training.
"""

import importlib.util
import os
import re
from typing import Any

from lth_keras.arguments import check_choice
from lth_keras.controls.control import TRAINED
from lth_keras.controls.known import CONTROLS
from lth_keras.core import criteria, fractions, unit_criteria
from lth_keras.core.next_masks import check_multiple
from lth_keras.core.structures.words import parse
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.branches import MOST_LEVEL, TICKET

SCORING_PER_CLASS = 10  # The default, which strategies without gradients must have.
_MOST_REPLICATES = 1_000_000  # Far above any real run.
# The needs of a criterion that `lth run` can meet.
PROVIDED = ("gradient", "initial_gradient", "activation")
COSTS = ("macs", "weights")  # At which a replicate can end: columns of its results.
BACKENDS = ("jax", "tensorflow", "torch")  # Of Keras 3; the first that is there is the default.
OWN = "own"  # Stands for the initializers that the network's layers have themselves.
_INITIALIZER = re.compile(r"own|glorot_normal|he_normal|normal_[0-9]{1,9}(\.[0-9]{1,9})?")


def check_names(config: Any) -> None:
    """Checks the names of preset, network and data set.

    Raises:
      LotteryError: if a name holds anything but letters, digits, "_", "-" and ".".
    """
    # They become parts of file names and of figures' titles.
    for name in ("preset", "network", "dataset"):
        value = getattr(config, name)
        own = name == "network" and isinstance(value, str) and ":" in value \
            and value.isprintable() and len(value) <= 500  # MODULE:FUNCTION.
        if not own and (not isinstance(value, str)
                        or not re.fullmatch(r"[0-9A-Za-z_.-]{1,100}", value)):
            raise LotteryError(f"{name} must be a name of letters, digits, '_', '-' and '.'. "
                               f"Received: {value!r:.100}.")


def check_own(config: Any) -> None:
    """Checks the settings of a user's own data and network.

    Raises:
      LotteryError: if a path is no text, or a checksum none.
    """
    for name in ("data", "network_file", "data_checksum", "network_checksum"):
        value = getattr(config, name)
        if not isinstance(value, str) or (
                name.endswith("checksum") and not re.fullmatch("([0-9a-f]{16})?", value)):
            kind = "sixteen hexadecimal digits" if name.endswith("checksum") else "a path"
            raise LotteryError(f"{name} must be {kind}. Received: {value!r:.100}.")


def keras_backend(config: Any) -> str:
    """Returns the backend of Keras 3 that a configuration is trained on, or "" with tf_keras.

    Raises:
      LotteryError: if a backend is given with tf_keras, is unknown, or none is installed.
    """
    asked = config.keras_backend
    if config.engine != "keras":
        if asked:
            raise LotteryError("keras_backend is a setting of engine=keras. Received: "
                               f"keras_backend={asked!r:.50} with engine={config.engine}.")
        return ""
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    chosen = asked or os.environ.get("KERAS_BACKEND") or (installed or ("none",))[0]
    check_choice("keras_backend", chosen, BACKENDS)
    return str(chosen)


def check_criterion(config: Any) -> None:
    """Checks the pruning criterion.

    Raises:
      LotteryError: if it is not the name of a registered criterion, or needs a value that
        `lth run` cannot give it.
    """
    # A function could not be stored in config.json, and so the run could not be resumed.
    if not isinstance(config.criterion, str):
        raise LotteryError("criterion must be the name of a registered criterion, since it is "
                           f"stored in the workdir. Received: {config.criterion!r}. Register "
                           "your own with lth_keras.core.criteria.register.")
    check_choice("criterion", config.criterion, tuple(criteria.CRITERIA))
    unit_criteria.check(criteria.check_needs(config.criterion, PROVIDED, "lth run"),
                        parse(config.structure))


def check_ranges(config: Any) -> None:
    """Checks that numbers are within their ranges.

    Raises:
      LotteryError: for a number outside its range, or a momentum or weight decay without sgd.
    """
    if config.replicate_numbers.stop > _MOST_REPLICATES:
        raise LotteryError(f"first_replicate + replicates must be at most {_MOST_REPLICATES:,}. "
                           f"Received: first_replicate={config.first_replicate}, "
                           f"replicates={config.replicates}.")
    if config.rounds > MOST_LEVEL:
        raise LotteryError(f"rounds must be at most {MOST_LEVEL:,}. Received: {config.rounds:,}.")
    if not 0 < config.learning_rate < float("inf"):
        raise LotteryError("learning_rate must be a finite number > 0. "
                           f"Received: {config.learning_rate!r}.")
    if not 0 <= config.momentum < 1 or (config.momentum and config.optimizer != "sgd"):
        raise LotteryError("momentum must be in [0, 1), and 0 unless optimizer is sgd. "
                           f"Received: {config.momentum!r} with {config.optimizer}.")
    if not 0 <= config.weight_decay < float("inf") or \
            (config.weight_decay and config.optimizer != "sgd"):
        raise LotteryError("weight_decay must be a finite number >= 0, and 0 unless optimizer "
                           f"is sgd. Received: {config.weight_decay!r} with {config.optimizer}.")
    if not 0 <= config.dropout < 1:
        raise LotteryError(f"dropout must be in [0, 1). Received: {config.dropout!r}.")
    if not isinstance(config.initializer, str) or not _INITIALIZER.fullmatch(config.initializer) \
            or not float(config.initializer.partition("normal_")[2] or 1):
        raise LotteryError("initializer must be one of own, glorot_normal, he_normal, or "
                           "normal_DEVIATION with a deviation > 0, such as normal_0.1. "
                           f"Received: {config.initializer!r:.100}.")
    if not 0 < config.scale <= 1:
        raise LotteryError(f"scale must be in (0, 1]. Received: {config.scale!r}.")


def check_steps(config: Any) -> None:
    """Checks settings that count steps.

    Raises:
      LotteryError: if a step is not within the training, or `rewind_step` or a measured step is
        not one at which the network is validated.
    """
    # The training program runs from validation to validation: its state is seen only there.
    if config.validation_every > config.steps:
        raise LotteryError("validation_every must be at most steps. Received: "
                           f"validation_every={config.validation_every}, steps={config.steps}.")
    if config.warmup_steps >= config.steps:
        raise LotteryError("warmup_steps must be below steps. Received: "
                           f"warmup_steps={config.warmup_steps}, steps={config.steps}.")
    uneven = [step for step in (config.rewind_step, *config.measured_steps)
              if step % config.validation_every]
    if uneven or config.rewind_step >= config.steps:
        raise LotteryError(
            "rewind_step, below steps, and measured_steps must be multiples of "
            f"validation_every={config.validation_every}. Received: rewind_step="
            f"{config.rewind_step}, measured_steps={config.measured_steps}, steps={config.steps}.")
    if config.patience < 0 or config.patience % config.validation_every:
        raise LotteryError("patience must be a multiple of validation_every, or 0 for none. "
                           f"Received: patience={config.patience}, validation_every="
                           f"{config.validation_every}.")


def check_branches(config: Any) -> None:
    """Checks the levels of branches, and that what controls need is kept.

    Raises:
      LotteryError: if a level is above `rounds`, or is 0 for a control: at level 0 nothing is
        pruned, so a control would be the dense network itself; or if a control needs trained
        weights and `keep_trained` is "none".
    """
    taking = needing(config, TRAINED)
    if taking and config.keep_trained == "none":
        raise LotteryError(f"The control {taking[0]} needs trained weights, so they must be kept. "
                           "Received: keep_trained=none. Leave it out.")
    for branch in config.plan:
        first = 0 if branch.name == TICKET else 1
        if any(not first <= level <= config.rounds for level in branch.levels or ()):
            raise LotteryError(f"branches must name levels from {first} to rounds="
                               f"{config.rounds} for {branch.name}. Received: {branch}.")


def updating_masks(config: Any) -> list[str]:
    """Returns the branches whose masks are updated every `mask_update_every` steps."""
    return [branch.name for branch in config.plan if branch.name in ("gradual", "set", "rigl")]


def check_sparse_trainings(config: Any) -> None:
    """Checks what goes together with controls that find their masks in training.

    Raises:
      LotteryError: if the precision or the number of steps does not have sparse trainings.
    """
    methods = [branch.name for branch in config.plan
               if branch.name in CONTROLS and CONTROLS[branch.name].method]
    moving = updating_masks(config)
    if moving and config.mask_update_every > config.steps * 3 // 4:
        raise LotteryError("mask_update_every must lie within three quarters of steps, in which "
                           f"{' and '.join(moving)} update masks. Received: "
                           f"{config.mask_update_every} with steps={config.steps}.")
    if methods and config.dtype_policy == "mixed_float16":
        raise LotteryError(f"The branch {methods[0]} scales no loss, which float16 needs. "
                           "Received: dtype_policy=mixed_float16. Take mixed_bfloat16 or float32.")


def needing(config: Any, need: str) -> list[str]:
    """Returns the branches whose control needs something besides the ticket."""
    return [branch.name for branch in config.plan
            if branch.name in CONTROLS and need in CONTROLS[branch.name].needs]


def check_structure(config: Any) -> None:
    """Checks the structure in which weights are pruned.

    Raises:
      LotteryError: if `rounds`, `scope` or `fraction` do not fit it, or a control's masks cannot
        have it.
    """
    # M:N sparsity must be reached in a number of rounds that divides M, and within each layer.
    structure = parse(config.structure)
    structure.check_rounds(config.rounds)
    structure.check_scope(config.scope)
    check_multiple(config.multiple_of, structure.coupled)
    if isinstance(config.fraction, tuple) and not structure.coupled:
        fractions.resolve(config.fraction, [])
    # "free" masks are drawn weight by weight, anywhere in the network.
    free = [branch.name for branch in config.plan
            if branch.name in CONTROLS and CONTROLS[branch.name].mask == "free"]
    if free and not structure.is_none:
        raise LotteryError(f"branches must have masks of structure={structure}, and controls "
                           "that draw single weights anywhere have not. Received: "
                           f"{', '.join(free)}. Use random_mask or shuffled_mask instead.")


def check_until(config: Any) -> None:
    """Checks the costs at which a replicate ends.

    Raises:
      LotteryError: if multiply-adds are asked for where single weights are pruned, or a control is
        to be trained at the last level only, which nobody knows before.
    """
    if config.target is None:
        return
    if "macs" in config.target.shares and not parse(config.structure).coupled:
        raise LotteryError("until=macs:... needs structure=filters: what zeros anywhere save "
                           f"depends on the runtime. Received: structure={config.structure}. Use "
                           "until=weights:... instead.")
    if any(branch.endswith("@last") for branch in config.branches):
        raise LotteryError("branches cannot be @last with until, which decides what level is the "
                           f"last. Received: {', '.join(config.branches)} with until="
                           f"{config.until}.")


def rising_steps(name: str, value: Any, most: int) -> tuple[int, ...]:
    """Checks a setting that lists steps, and returns it as a tuple.

    Args:
      name: the setting's name.
      value: a tuple or list of whole numbers in [1, most], each above the one before.
      most: the highest step allowed.

    Raises:
      LotteryError: for anything else.

    Example:
      >>> rising_steps("learning_rate_drops", [20_000, 25_000], most=30_000)
      (20000, 25000)
    """
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    whole = all(type(step) is int and 1 <= step <= most for step in numbers)
    if not whole or list(numbers) != sorted(set(numbers)):
        raise LotteryError(f"{name} must be rising steps in [1, steps={most}], such as "
                           f"100/200. Received: {value!r:.100}. To shorten all steps of a preset "
                           "together, use scale (--scale).")
    return numbers


def parse_value(name: str, text: str, now: Any) -> Any:
    """Converts the text of `--set NAME=VALUE` to the type that the setting has now.

    Raises:
      LotteryError: if the text is not of that type.

    Example:
      >>> parse_value("steps", "300", 1), parse_value("measured_steps", "100/200", ())
      (300, (100, 200))
    """
    if name == "branches":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        if name == "fraction":
            return _parse_fraction(text)
        if isinstance(now, tuple):
            return tuple(int(part) for part in re.split("[/,]", text) if part.strip())
        return type(now)(text)
    except ValueError:
        kind = {int: "a whole number", float: "a number", tuple: "steps, such as 100/200"}.get(
            type(now) if name != "fraction" else dict, "a number, or such as "
            "default:0.2,output:0.1, or of each stage of filters, 0.6/0.3/0.1")
        raise LotteryError(f"{name} must be {kind}. Received: {text!r}.") from None


def _parse_fraction(text: str) -> "float | dict[str, float] | tuple[float, ...]":
    # One fraction for all layers, one for each kind of layer: "default:0.2,output:0.1", or one for
    # each stage of filters: "0.6/0.3/0.1".
    if ":" not in text:
        numbers = tuple(float(part) for part in text.split("/"))
        return numbers if len(numbers) > 1 else numbers[0]
    pairs = [(key.strip(), float(value)) for key, value in
             (part.rsplit(":", 1) for part in text.split(","))]
    keys = {key for key, _ in pairs}
    if len(keys) < len(pairs) or "" in keys:
        raise ValueError("an entry is missing or given twice")
    return dict(pairs)
