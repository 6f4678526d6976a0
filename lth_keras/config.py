"""Configuration: what one experiment is, frozen, checked and written down.

The fields say three things.  `preset` names where the settings come from; most fields
say what each training is; `rounds`, `replicates` and `branches` say how many there
are.  The fingerprint stands for the former two, so that a run can be continued with
more rounds or replicates; fields at their default are left out of it, so that a field
added later does not change the fingerprints of old runs.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from lth_keras import criteria, fractions
from lth_keras.errors import LotteryError
from lth_keras.fractions import Fraction
from lth_keras.provenance import fingerprint
from lth_keras.prune import Scope, SCOPES

CONTROLS = ("reinit",)
BRANCHES = ("ticket", *CONTROLS)
DATA_ORDERS = ("fresh", "same")
OPTIMIZERS = ("adam", "sgd")
DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
AUGMENTATIONS = ("none", "flip_crop")
_EXTENT = ("rounds", "replicates", "branches")
# Far above any search's: a run looks at every level below that of a record it finds.
MOST_ROUNDS = 9999


def _field(help_text: str, default: Any = dataclasses.MISSING) -> Any:
    return dataclasses.field(default=default, metadata={"help": help_text})


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one experiment.

    Raises:
      LotteryError: for a value outside what its field allows.

    Example:
      >>> config = Config(preset="p", network="lenet_300_100", dataset="mnist", steps=100)
      >>> config.replace(rounds=3).fingerprint == config.fingerprint
      True
      >>> config.replace(seed=1).fingerprint == config.fingerprint
      False
    """

    preset: str = _field("name of the preset the settings come from")
    network: str = _field("network to train")
    dataset: str = _field("data set to train it on")
    steps: int = _field("optimizer steps of each training, >= 1")
    rounds: int = _field(f"how many times the network is pruned, in [0, {MOST_ROUNDS}]", 16)
    replicates: int = _field("repetitions, each with its own weights and data order, >= 1", 1)
    branches: tuple[str, ...] = _field(
        f"what is trained at each level, of {', '.join(BRANCHES)}; controls train from level 1",
        BRANCHES)
    seed: int = _field("seed of all randomness, any whole number", 0)
    optimizer: str = _field(f"one of {', '.join(OPTIMIZERS)}", "adam")
    learning_rate: float = _field("learning rate, > 0", 1.2e-3)
    momentum: float = _field("momentum of sgd, in [0, 1)", 0.0)
    batch_size: int = _field("examples a step, >= 1", 60)
    validation_every: int = _field("steps between validations, in [1, steps]", 100)
    validation_size: int = _field("training examples held out for validation, >= 1", 5000)
    fraction: Fraction = _field(
        "share of the remaining weights that a round prunes, in [0, 1), or by layer as in "
        "default:0.2,output:0.1", 0.2)
    scope: Scope = _field(f"where scores are compared, one of {', '.join(SCOPES)}", "layer")
    criterion: str = _field("scores to prune by, a registered name", "magnitude")
    data_order: str = _field(
        "order of the examples: fresh for every training, or the same at every level", "fresh")
    augmentation: str = _field(
        f"of training images, one of {', '.join(AUGMENTATIONS)}: mirrored at random, and cropped "
        "at random after 4 pixels of padding", "none")
    dtype_policy: str = _field(f"precision, one of {', '.join(DTYPE_POLICIES)}", "float32")

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("rounds", 0), ("replicates", 1), ("batch_size", 1),
                            ("validation_every", 1), ("validation_size", 1), ("seed", None)):
            _check_whole(name, getattr(self, name), least)
        if self.rounds > MOST_ROUNDS:
            raise LotteryError(f"rounds must be at most {MOST_ROUNDS:,}. "
                               f"Received: {self.rounds:,}.")
        for name, allowed in (("optimizer", OPTIMIZERS), ("scope", SCOPES),
                              ("data_order", DATA_ORDERS), ("augmentation", AUGMENTATIONS),
                              ("dtype_policy", DTYPE_POLICIES)):
            if getattr(self, name) not in allowed:
                raise LotteryError(f"{name} must be one of {', '.join(allowed)}. "
                                   f"Received: {getattr(self, name)!r}.")
        if not isinstance(self.criterion, str):
            raise LotteryError("criterion must be a registered name, which can be written down. "
                               f"Received: {self.criterion!r}.")
        if self.criterion not in criteria.CRITERIA:
            raise LotteryError(f"criterion must be one of {', '.join(criteria.CRITERIA)}. "
                               f"Received: {self.criterion!r}.")
        for name in ("learning_rate", "momentum"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        for name in ("preset", "network", "dataset"):
            value = getattr(self, name)
            # Names become parts of paths and of pictures.
            if not isinstance(value, str) or not re.fullmatch(r"[0-9A-Za-z_.-]{1,100}", value):
                raise LotteryError(f"{name} must be a name of letters, digits, '_', '-' and '.'. "
                                   f"Received: {value!r:.100}.")
        object.__setattr__(self, "fraction", fractions.check(self.fraction))
        object.__setattr__(self, "branches", _check_branches(self.branches))
        if not 0 < self.learning_rate < float("inf"):
            raise LotteryError("learning_rate must be a finite number > 0. "
                               f"Received: {self.learning_rate!r}.")
        if not 0 <= self.momentum < 1 or (self.momentum and self.optimizer != "sgd"):
            raise LotteryError("momentum must be in [0, 1), and 0 unless optimizer is sgd. "
                               f"Received: {self.momentum!r} with {self.optimizer}.")
        if self.validation_every > self.steps:
            raise LotteryError("validation_every must be at most steps. Received: "
                               f"validation_every={self.validation_every}, steps={self.steps}.")

    def replace(self, **changes: Any) -> "Config":
        """The configuration with fields changed, checked as a whole.

        Args:
          **changes: field -> value; text is read as the field's type.

        Example:
          >>> config = Config(preset="p", network="lenet_300_100", dataset="mnist", steps=100)
          >>> config.replace(rounds="3", fraction="default:0.2,output:0.1").fraction
          {'default': 0.2, 'output': 0.1}
        """
        names = {field.name for field in dataclasses.fields(self)} - {"preset"}
        for name in changes:
            if name not in names:
                raise LotteryError(f"A setting must be one of {', '.join(sorted(names))}. "
                                   f"Received: {name!r}.")
        parsed = {name: _parse(name, value, getattr(self, name)) if isinstance(value, str)
                  else value for name, value in changes.items()}
        return dataclasses.replace(self, **parsed)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain data that JSON can hold."""
        plain = dataclasses.asdict(self)
        return {**plain, "branches": list(self.branches)}

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """The configuration that `to_dict` wrote.

        Raises:
          LotteryError: if the text is not one, or a value is not allowed.
        """
        try:
            return cls.from_plain(json.loads(text))
        except LotteryError:
            raise
        except (ValueError, RecursionError) as error:
            raise LotteryError(f"A configuration must be the JSON object of its fields. "
                               f"Received: {text!r:.60} ({error}).") from None

    @classmethod
    def from_plain(cls, plain: Any) -> "Config":
        """The configuration that `to_dict` gave, from data that may be anything.

        Raises:
          LotteryError: if the data are not one, or a value is not allowed.
        """
        try:
            return cls(**{**plain, "branches": tuple(plain["branches"])})
        except LotteryError as error:  # With a value in it that may be of any length and letters.
            said = "".join(letter if letter.isprintable() else "?" for letter in str(error)[:500])
            raise LotteryError(said) from None
        except Exception as error:  # Whatever bad types raise.
            raise LotteryError(f"A configuration must be the JSON object of its fields. "
                               f"Received: {plain!r:.60} ({error!r:.100}).") from None

    @property
    def identity(self) -> dict[str, Any]:
        """What each training is: every field but the extent that is not at its default."""
        plain = self.to_dict()
        return {field.name: plain[field.name] for field in dataclasses.fields(self)
                if field.name not in _EXTENT and plain[field.name] != field.default}

    @property
    def fingerprint(self) -> str:
        """Ten hexadecimal digits that stand for `identity`."""
        return fingerprint(self.identity)


def _check_whole(name: str, value: Any, least: int | None) -> None:
    low = least is not None and isinstance(value, int) and value < least
    if isinstance(value, bool) or not isinstance(value, int) or low:
        bound = "" if least is None else f" >= {least}"
        raise LotteryError(f"{name} must be a whole number{bound}. Received: {value!r}.")


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LotteryError(f"{name} must be a number. Received: {value!r}.")
    return float(value)


def _check_branches(branches: Any) -> tuple[str, ...]:
    if not isinstance(branches, (tuple, list)):
        raise LotteryError(f"branches must be a tuple of {', '.join(BRANCHES)}. "
                           f"Received: {branches!r}.")
    unknown = [branch for branch in branches if branch not in BRANCHES]
    if unknown or not branches:
        raise LotteryError(f"branches must be of {', '.join(BRANCHES)}. "
                           f"Received: {', '.join(map(str, branches)) or 'none'}.")
    # A control is made from the ticket's masks, so the ticket is always trained.
    return tuple(branch for branch in BRANCHES if branch == "ticket" or branch in branches)


def _parse(name: str, text: str, now: Any) -> Any:
    if name == "branches":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        if name == "fraction":
            return _parse_fraction(text)
        return type(now)(text)
    except ValueError:
        kind = {int: "a whole number", float: "a number"}.get(type(now), "a number, or such as "
                                                              "default:0.2,output:0.1")
        raise LotteryError(f"{name} must be {kind}. Received: {text!r}.") from None


def _parse_fraction(text: str) -> "float | Mapping[str, float]":
    if ":" not in text:
        return float(text)
    pairs = [(key.strip(), float(value)) for key, value in
             (part.rsplit(":", 1) for part in text.split(","))]
    keys = {key for key, _ in pairs}
    if len(keys) < len(pairs) or "" in keys:
        raise ValueError("an entry is missing or given twice")
    return dict(pairs)
