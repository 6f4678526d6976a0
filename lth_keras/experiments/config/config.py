"""Configuration: what one experiment is, frozen, checked and written down.

`preset` names where the settings come from; most fields say what each training is; those of
EXTENT say how many there are, and which.  The fingerprint stands for the former two, so that a
run can be continued with more rounds or replicates; fields at their default are left out of it,
so that a field added later does not change the fingerprints of old runs.
"""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from lth_keras.arguments import check_choice, check_number, check_share, check_whole
from lth_keras.core import fractions
from lth_keras.core.fractions import Fraction
from lth_keras.core.pruning import Scope, SCOPES
from lth_keras.core.structures import words
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import branches, validation
from lth_keras.experiments.config.branches import Branch, TICKET
from lth_keras.experiments.config.strategies import describe, RETRAININGS, STRATEGIES
from lth_keras.files.provenance import fingerprint

DATA_ORDERS = ("fresh", "same")
OPTIMIZERS = ("adam", "sgd")
DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
AUGMENTATIONS = ("none", "flip_crop")
KEPT = ("tickets", "none")
EXTENT = ("rounds", "replicates", "first_replicate", "branches", "keep_trained")
# What a preset and --scale say, and no setting changes.
NOT_SETTABLE = frozenset({"preset", "scale"})
_CHOICES: dict[str, Iterable[str]] = {
    "strategy": STRATEGIES, "retraining": RETRAININGS, "optimizer": OPTIMIZERS,
    "scope": SCOPES, "data_order": DATA_ORDERS, "augmentation": AUGMENTATIONS,
    "dtype_policy": DTYPE_POLICIES, "keep_trained": KEPT}
_LEAST = {"seed": None, "steps": 1, "rounds": 0, "replicates": 1, "first_replicate": 0,
          "batch_size": 1, "validation_every": 1, "validation_size": 1, "rewind_step": 0,
          "warmup_steps": 0}


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
    rounds: int = _field(f"how many times the network is pruned, in [0, {branches.MOST_LEVEL}]", 16)
    replicates: int = _field("repetitions, each with its own weights and data order, >= 1", 1)
    first_replicate: int = _field(
        "number of the first replicate, >= 0: machines that share a run have others each", 0)
    branches: tuple[str, ...] = _field(
        "what is trained at each level: ticket and controls, as in reinit:3@3/5/7-9 for three "
        "times at levels 3, 5, 7, 8, 9; controls train from level 1", ("ticket", "reinit"))
    keep_trained: str = _field(
        f"whose trained weights are kept, one of {', '.join(KEPT)}", "tickets")
    strategy: str = _field(describe(STRATEGIES), "iterative")
    retraining: str = _field(
        f"what survivors are trained from: {describe(RETRAININGS)}", "weight_rewinding")
    rewind_step: int = _field(
        "step k of level 0 that weights and learning rate are rewound to, a multiple of "
        "validation_every below steps", 0)
    seed: int = _field("seed of all randomness, any whole number", 0)
    optimizer: str = _field(f"one of {', '.join(OPTIMIZERS)}", "adam")
    learning_rate: float = _field("learning rate, > 0", 1.2e-3)
    momentum: float = _field("momentum of sgd, in [0, 1)", 0.0)
    weight_decay: float = _field("of sgd: times each weight, added to its gradient, >= 0", 0.0)
    warmup_steps: int = _field("steps over which the learning rate rises from 0, in [0, steps)", 0)
    learning_rate_drops: tuple[int, ...] = _field(
        "steps at which the learning rate is divided by ten, such as 20000/25000", ())
    batch_size: int = _field("examples a step, >= 1", 60)
    validation_every: int = _field("steps between validations, in [1, steps]", 100)
    validation_size: int = _field("training examples held out for validation, >= 1", 5000)
    fraction: Fraction = _field(
        "share of the remaining weights that a round prunes, in [0, 1), or by layer as in "
        "default:0.2,output:0.1", 0.2)
    scope: Scope = _field(f"where scores are compared, one of {', '.join(SCOPES)}", "layer")
    criterion: str = _field("scores to prune by, a registered name", "magnitude")
    structure: str = _field(f"what is pruned together: {words.known()}", "none")
    data_order: str = _field(
        "order of the examples: fresh for every training, or the same at every level", "fresh")
    measured_steps: tuple[int, ...] = _field(
        "steps at which the test accuracy is taken too, multiples of validation_every, such as "
        "10000/20000", ())
    dropout: float = _field("share of the units of hidden dense layers that a step drops, in "
                            "[0, 1)", 0.0)
    initializer: str = _field("of kernels: own (the network's, Glorot normal in this package), "
                              "glorot_normal, he_normal or normal_DEVIATION", validation.OWN)
    scale: float = _field("what a preset's steps were multiplied by, in (0, 1]", 1.0)
    augmentation: str = _field(
        f"of training images, one of {', '.join(AUGMENTATIONS)}: mirrored at random, and cropped "
        "at random after 4 pixels of padding", "none")
    dtype_policy: str = _field(f"precision, one of {', '.join(DTYPE_POLICIES)}", "float32")

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            check_whole(name, getattr(self, name), least)
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        for name in ("learning_rate", "momentum", "weight_decay", "dropout", "scale"):
            object.__setattr__(self, name, check_number(name, getattr(self, name)))
        for name in ("learning_rate_drops", "measured_steps"):
            object.__setattr__(self, name, validation.rising_steps(
                name, getattr(self, name), self.steps))
        validation.check_names(self)
        validation.check_criterion(self)
        object.__setattr__(self, "fraction", fractions.check(self.fraction))
        object.__setattr__(self, "branches", branches.check(self.branches))
        object.__setattr__(self, "structure", str(words.parse(self.structure)))
        validation.check_ranges(self)
        validation.check_steps(self)
        STRATEGIES[self.strategy].check(self)
        RETRAININGS[self.retraining].check(self)
        validation.check_branches(self)
        validation.check_structure(self)

    def replace(self, **changes: Any) -> "Config":
        """The configuration with fields changed, checked as a whole.

        Args:
          **changes: field -> value; text is read as the field's type.

        Example:
          >>> config = Config(preset="p", network="lenet_300_100", dataset="mnist", steps=100)
          >>> config.replace(rounds="3", fraction="default:0.2,output:0.1").fraction
          {'default': 0.2, 'output': 0.1}
        """
        names = {field.name for field in dataclasses.fields(self)} - NOT_SETTABLE
        for name in changes:
            check_choice("A setting", name, sorted(names))
        parsed = {name: value if not isinstance(value, str)
                  else validation.parse_value(name, value, getattr(self, name))
                  for name, value in changes.items()}
        return dataclasses.replace(self, **parsed)

    def scaled(self, scale: float) -> "Config":
        """The same experiment in fewer steps: its schedule is scaled with them.

        Steps that are looked at, measured or rewound to, are moved to the nearest validation;
        validations are as far apart as before, or as the first of those steps is from 0.

        Args:
          scale: what to multiply steps with, in (0, 1].

        Example:
          >>> config = Config(preset="p", network="vgg19", dataset="cifar10", steps=1000,
          ...                 learning_rate_drops=(500, 750))
          >>> config.scaled(0.5).steps, config.scaled(0.5).learning_rate_drops
          (500, (250, 375))
        """
        check_share("scale", scale)

        def steps(count: int) -> int:
            return max(1, round(count * scale)) if count else 0

        def validated(count: int) -> int:  # Where there is a validation.
            return max(1, round(count * scale / every)) * every if count else 0
        looked_at = filter(None, (self.rewind_step, *self.measured_steps, self.steps))
        every = min(self.validation_every, *map(steps, looked_at))
        last = steps(self.steps) // every * every
        return dataclasses.replace(
            self, scale=self.scale * scale, steps=steps(self.steps), validation_every=every,
            rewind_step=validated(self.rewind_step), warmup_steps=steps(self.warmup_steps),
            learning_rate_drops=tuple(map(steps, self.learning_rate_drops)),
            measured_steps=tuple(sorted({min(validated(step), last)
                                         for step in self.measured_steps})))

    @property
    def replicate_numbers(self) -> range:
        """The replicates' numbers, from which their randomness comes."""
        return range(self.first_replicate, self.first_replicate + self.replicates)

    @property
    def plan(self) -> tuple[Branch, ...]:
        """The branches, as what is trained at which level."""
        return tuple(map(branches.parse, self.branches))

    def chain(self, level: int) -> str:
        """The branch of a level whose training the next level's ticket is made from."""
        return STRATEGIES[self.strategy].chain if level else TICKET

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain data that JSON can hold."""
        plain = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in plain.items()}

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """The configuration that `to_dict` wrote.

        Raises:
          LotteryError: if the text is not one, or a value is not allowed.
        """
        try:
            plain = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _no_configuration(text, error) from None
        return cls.from_plain(plain)

    @classmethod
    def from_plain(cls, plain: Any) -> "Config":
        """The configuration that `to_dict` gave, from data that may be anything.

        Raises:
          LotteryError: if the data are not one, or a value is not allowed.
        """
        try:
            fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                                      for name, value in plain.items()}
            return cls(**fields)
        except LotteryError as error:  # With a value in it that may be of any length and letters.
            said = "".join(letter if letter.isprintable() else "?" for letter in str(error)[:500])
            raise LotteryError(said) from None
        except Exception as error:  # Whatever bad types raise.
            raise _no_configuration(plain, error) from None

    @property
    def identity(self) -> dict[str, Any]:
        """What each training is: every field but the extent that is not at its default."""
        plain = self.to_dict()
        # Where they say how much a round prunes, another number of rounds is another training.
        extent = {*EXTENT} - ({"rounds"} if words.parse(self.structure).by_rounds else set())
        return {field.name: plain[field.name] for field in dataclasses.fields(self)
                if field.name not in extent and getattr(self, field.name) != field.default}

    @property
    def fingerprint(self) -> str:
        """Ten hexadecimal digits that stand for `identity`."""
        return fingerprint(self.identity)


def _no_configuration(received: object, error: Exception) -> LotteryError:
    return LotteryError("A configuration must be the JSON object of its fields. "
                        f"Received: {received!r:.60} ({error!r:.100}).")
