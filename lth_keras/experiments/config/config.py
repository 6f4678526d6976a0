"""`Config`: the settings of one experiment, checked, immutable and stored in its workdir.

Most settings change what each training is.  Those of EXTENT only say how many trainings there are,
and which: they are left out of the fingerprint, so that a run can be continued with more rounds or
replicates.  Settings at their default are left out too, so that a setting added in a later version
does not change the fingerprints of old runs.
"""

import dataclasses
import json
import os
from collections.abc import Iterable
from typing import Any

from lth_keras.arguments import check_choice, check_number, check_share, check_whole
from lth_keras.core import fractions
from lth_keras.core.fractions import Fraction
from lth_keras.core.pruning import Scope, SCOPES
from lth_keras.core.structures import words
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import branches, margins, transfer, validation
from lth_keras.experiments.config.at_init import check_at_init
from lth_keras.experiments.config.branches import Branch, TICKET
from lth_keras.experiments.config.margins import Margins
from lth_keras.experiments.config.strategies import describe, RETRAININGS, STRATEGIES
from lth_keras.files.provenance import fingerprint
from lth_keras.initial import distributions
from lth_keras.search.target import Target

DATA_ORDERS = ("fresh", "same")
ENGINES = ("tf_keras", "keras")
OPTIMIZERS = ("adam", "sgd")
DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
AUGMENTATIONS = ("none", "flip_crop")
KEPT = ("tickets", "none")
SCOPE = "scope"  # As a distribution: as `scope` says.
DISTRIBUTIONS = tuple(name for name in distributions.DISTRIBUTIONS if name != "global")
EXTENT = ("rounds", "replicates", "first_replicate", "branches", "keep_trained", "margin", "until",
          "source", "data", "network_file")
# These fields are set by a preset, by --scale and by `source`, and cannot be changed by --set.
NOT_SETTABLE = frozenset({"preset", "scale", "source_fingerprint", "data_checksum", "network_file",
                          "network_checksum"})
CHOICES: dict[str, Iterable[str]] = {
    "strategy": STRATEGIES, "retraining": RETRAININGS, "optimizer": OPTIMIZERS,
    "scope": SCOPES, "data_order": DATA_ORDERS, "augmentation": AUGMENTATIONS,
    "dtype_policy": DTYPE_POLICIES, "keep_trained": KEPT, "engine": ENGINES,
    "distribution": (SCOPE, *DISTRIBUTIONS), "against": ("theta_k", "theta_0")}
_LEAST = {"seed": None, "steps": 1, "rounds": 0, "replicates": 1, "first_replicate": 0,
          "batch_size": 1, "validation_every": 1, "validation_size": 1, "rewind_step": 0,
          "warmup_steps": 0, "multiple_of": 1, "scoring_per_class": 1,
          "mask_update_every": 1}


def _field(help_text: str, default: Any = dataclasses.MISSING) -> Any:
    # The help of a setting is beside its name and default, and is listed by `lth run --help` and
    # by report.html.
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

    preset: str = _field("name of the preset that the settings come from")
    network: str = _field("network to train: one of those listed, or a function of your own as "
                          "MODULE:FUNCTION, which takes nothing, or input_shape and classes")
    dataset: str = _field("data set to train on")
    steps: int = _field("optimizer steps of each training, >= 1")
    rounds: int = _field(f"how many times the network is pruned, in [0, {branches.MOST_LEVEL}]", 16)
    replicates: int = _field(
        "number of repetitions, each with its own initial weights and data order, >= 1", 1)
    first_replicate: int = _field(
        "number of the first replicate, >= 0; machines that share a run train different ones", 0)
    branches: tuple[str, ...] = _field(
        "what to train at each level: ticket and controls, such as reinit:3@3/5/7-9 for three "
        "re-initialised networks at levels 3, 5, 7, 8 and 9, or reinit@last; controls begin at "
        "level 1",
        ("ticket", "reinit"))
    keep_trained: str = _field(
        f"which trained weights to keep in the workdir, one of {', '.join(KEPT)}", "tickets")
    strategy: str = _field(describe(STRATEGIES), "iterative")
    retraining: str = _field(
        f"what survivors are trained from: {describe(RETRAININGS)}", "weight_rewinding")
    source: str = _field(
        "workdir of the run whose tickets are trained, replicate by replicate, with "
        "strategy=transfer, which it implies", "")
    source_fingerprint: str = _field("fingerprint of that run, as its workdir says", "")
    data: str = _field("file NAME.npz with the arrays x_train, y_train, x_test and y_test, to "
                       "train on your own data", "")
    data_checksum: str = _field("start of that file's SHA-256", "")
    network_file: str = _field("file with the function of a network MODULE:FUNCTION", "")
    network_checksum: str = _field("start of that file's SHA-256", "")
    rewind_step: int = _field(
        "step k of level 0 to which weights and learning rate are rewound, below steps and a "
        "multiple of validation_every", 0)
    seed: int = _field("seed of all random numbers, any whole number", 0)
    optimizer: str = _field(f"optimizer, one of {', '.join(OPTIMIZERS)}", "adam")
    learning_rate: float = _field("learning rate, > 0", 1.2e-3)
    momentum: float = _field("momentum of sgd, in [0, 1)", 0.0)
    weight_decay: float = _field(
        "weight decay of sgd (its product with each weight is added to the gradient), >= 0", 0.0)
    warmup_steps: int = _field(
        "steps over which the learning rate rises linearly from 0, in [0, steps)", 0)
    learning_rate_drops: tuple[int, ...] = _field(
        "steps at which the learning rate is divided by ten, such as 20000/25000", ())
    batch_size: int = _field("examples in a step, >= 1", 60)
    validation_every: int = _field("steps between validations, in [1, steps]", 100)
    validation_size: int = _field("training examples held out for validation, >= 1", 5000)
    fraction: Fraction = _field(
        "share of the remaining weights that a round prunes, in [0, 1), one for each kind of "
        "layer or pattern of layer names, such as default:0.2,output:0.1,stage1_*:0, or one for "
        "each stage of filters, 0.6/0.3/0.1", 0.2)
    scope: Scope = _field(
        f"among which weights scores are compared, one of {', '.join(SCOPES)}", "layer")
    distribution: str = _field(
        "how strategies that score theta_k share the kept weights among layers: scope (as scope "
        f"says), {', '.join(DISTRIBUTIONS)}", SCOPE)
    scoring_per_class: int = _field(
        "training examples of each class for snip and grasp, >= 1",
        validation.SCORING_PER_CLASS)
    mask_update_every: int = _field(
        "steps between two updates of the masks of the branches gradual, set and rigl, which end "
        "at three quarters of the steps, >= 1", 100)
    criterion: str = _field("name of the criterion that scores weights for pruning", "magnitude")
    against: str = _field("initial values that criteria compare with: theta_k, to which survivors "
                          "are rewound, or theta_0", "theta_k")
    structure: str = _field(f"pattern to prune in: {words.known()}", "none")
    multiple_of: int = _field(
        "where filters are pruned, a layer that loses some keeps a multiple of this number, at "
        "most as many as fraction leaves, >= 1", 1)
    data_order: str = _field(
        "order of the examples: fresh (a new one for every training) or same (at every level)",
        "fresh")
    measured_steps: tuple[int, ...] = _field(
        "further steps at which to measure test accuracy, multiples of validation_every, such as "
        "10000/20000", ())
    patience: int = _field(
        "steps without a lower validation loss after which a control ends, a multiple of "
        "validation_every; 0: at the last step.  Its early stop may be missed, and its accuracies "
        "at the last step are empty", 0)
    dropout: float = _field("share of the units of hidden dense layers that a step drops, in "
                            "[0, 1)", 0.0)
    initializer: str = _field(
        "initializer of all kernels: own (the network's own, Glorot normal for the networks of "
        "this package), glorot_normal, he_normal or normal_DEVIATION", validation.OWN)
    scale: float = _field("factor that the preset's steps were multiplied by, in (0, 1]", 1.0)
    augmentation: str = _field(
        f"augmentation of training images, one of {', '.join(AUGMENTATIONS)} (mirrors at random, "
        "and crops at random after 4 pixels of padding)", "none")
    margin: str = _field(
        f"how much worse than the dense network still counts as good: {margins.RULE}",
        str(margins.DEFAULT))
    until: str = _field(
        f"shares of the dense network's costs at which a replicate ends, such as macs:0.5, at most "
        f"after `rounds`: {' or '.join(validation.COSTS)}", "")
    dtype_policy: str = _field(
        f"precision of the computation, one of {', '.join(DTYPE_POLICIES)}", "float32")
    engine: str = _field("what trains the networks: tf_keras (Keras 2, with tfmot's wrappers) or "
                         "keras (Keras 3, on any of its backends)", "tf_keras")
    keras_backend: str = _field(
        "backend of engine=keras, one of jax, tensorflow and torch (default: KERAS_BACKEND, or "
        "the first of them that is installed)", "")

    def __post_init__(self) -> None:
        # Types first: the later checks compute with the values. A frozen dataclass can be changed
        # here by object.__setattr__ only.
        for name, least in _LEAST.items():
            check_whole(name, getattr(self, name), least)
        for name, allowed in CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        for name in ("learning_rate", "momentum", "weight_decay", "dropout", "scale"):
            object.__setattr__(self, name, check_number(name, getattr(self, name)))
        for name in ("learning_rate_drops", "measured_steps"):
            object.__setattr__(self, name, validation.rising_steps(
                name, getattr(self, name), self.steps))
        object.__setattr__(self, "keras_backend", validation.keras_backend(self))
        validation.check_names(self)
        validation.check_own(self)
        transfer.check_source(self)
        validation.check_criterion(self)
        object.__setattr__(self, "fraction", fractions.check(self.fraction))
        object.__setattr__(self, "branches", branches.check(self.branches))
        object.__setattr__(self, "structure", str(words.parse(self.structure)))
        object.__setattr__(self, "margin", str(margins.parse(self.margin)))
        object.__setattr__(self, "until", str(self.target or ""))
        validation.check_ranges(self)
        validation.check_steps(self)
        STRATEGIES[self.strategy].check(self)
        RETRAININGS[self.retraining].check(self)
        validation.check_branches(self)
        validation.check_sparse_trainings(self)
        check_at_init(self)
        validation.check_structure(self)
        validation.check_until(self)

    def replace(self, **changes: Any) -> "Config":
        """Returns a copy with settings changed, after checking all settings together.

        Args:
          **changes: setting -> value; text is converted to the setting's type.

        Raises:
          LotteryError: if a setting is unknown, or a value is not allowed.

        Example:
          >>> config = Config(preset="p", network="lenet_300_100", dataset="mnist", steps=100)
          >>> config.replace(rounds="3", fraction="default:0.2,output:0.1").fraction
          {'default': 0.2, 'output': 0.1}
        """
        names = {field.name for field in dataclasses.fields(self)} - NOT_SETTABLE
        for name in changes:
            check_choice("A setting", name, sorted(names))
        if changes.get("source"):
            changes["source"] = os.fspath(changes["source"])
            changes.setdefault("strategy", transfer.Transfer.name)
        parsed = {name: value if not isinstance(value, str)
                  else validation.parse_value(name, value, getattr(self, name))
                  for name, value in changes.items()}
        return dataclasses.replace(self, **parsed)

    def from_source(self, fingerprint: str) -> "Config":
        """Returns a copy that says which run its `source` is.

        Args:
          fingerprint: that run's.
        """
        return dataclasses.replace(self, source_fingerprint=fingerprint)

    def scaled(self, scale: float) -> "Config":
        """Returns the same experiment with fewer steps, and its schedule scaled with them.

        Steps that are measured or rewound to are moved to the nearest validation.  Validations
        stay as far apart as they are, unless the first of those steps would come before the first
        validation.

        Args:
          scale: the factor to multiply steps with, in (0, 1].

        Example:
          >>> config = Config(preset="p", network="vgg19", dataset="cifar10", steps=1000,
          ...                 learning_rate_drops=(500, 750))
          >>> config.scaled(0.5).steps, config.scaled(0.5).learning_rate_drops
          (500, (250, 375))
        """
        check_share("scale", scale)

        def steps(count: int) -> int:
            return max(1, round(count * scale)) if count else 0

        def validated(count: int) -> int:  # The nearest step with a validation.
            return max(1, round(count * scale / every)) * every if count else 0
        looked_at = filter(None, (
            self.rewind_step, self.patience, *self.measured_steps, self.steps))
        every = min(self.validation_every, *map(steps, looked_at))
        last = steps(self.steps) // every * every
        return dataclasses.replace(
            self, scale=self.scale * scale, steps=steps(self.steps), validation_every=every,
            mask_update_every=min(self.mask_update_every, max(1, steps(self.steps) * 3 // 4))
            if validation.updating_masks(self) else self.mask_update_every,
            patience=validated(self.patience),
            rewind_step=validated(self.rewind_step), warmup_steps=steps(self.warmup_steps),
            learning_rate_drops=tuple(map(steps, self.learning_rate_drops)),
            measured_steps=tuple(sorted({min(validated(step), last)
                                         for step in self.measured_steps})))

    @property
    def replicate_numbers(self) -> range:
        """The numbers of the replicates, from which their random numbers are derived."""
        return range(self.first_replicate, self.first_replicate + self.replicates)

    @property
    def plan(self) -> tuple[Branch, ...]:
        """The branches, parsed."""
        return tuple(branches.parse(text).until(self.rounds) for text in self.branches)

    @property
    def margins(self) -> Margins:
        """The margins of the verdict, parsed."""
        return margins.parse(self.margin)

    @property
    def target(self) -> "Target | None":
        """What a network may cost, at which its replicate ends; None to train all levels."""
        return Target.of(self.until, validation.COSTS)

    def chain(self, level: int) -> str:
        """Returns the branch of a level from whose training the next level's ticket is made."""
        return STRATEGIES[self.strategy].chain if level else TICKET

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as data that JSON can hold."""
        plain = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in plain.items()}

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Reads a configuration from the JSON of `to_dict`.

        Raises:
          LotteryError: if the text is not such JSON, or a value is not allowed.
        """
        try:
            plain = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _no_configuration(text, error) from None
        return cls.from_plain(plain)

    @classmethod
    def from_plain(cls, plain: Any) -> "Config":
        """Makes a configuration from the data of `to_dict`, which come from a file.

        Raises:
          LotteryError: if the data are anything else, or a value is not allowed.
        """
        try:
            fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                                      for name, value in plain.items()}
            return cls(**fields)
        except LotteryError as error:
            # The message quotes a value from a file: control characters could deceive a terminal.
            said = "".join(letter if letter.isprintable() else "?" for letter in str(error)[:500])
            raise LotteryError(said) from None
        except Exception as error:  # Values of a wrong type raise errors of many types.
            raise _no_configuration(plain, error) from None

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that decide what each training is, without those at their default."""
        plain = self.to_dict()
        # If the structure decides how much a round prunes (M:N), this depends on the number of
        # rounds.
        extent = {*EXTENT} - ({"rounds"} if words.parse(self.structure).by_rounds else set())
        return {field.name: plain[field.name] for field in dataclasses.fields(self)
                if field.name not in extent and getattr(self, field.name) != field.default}

    @property
    def fingerprint(self) -> str:
        """Ten hexadecimal digits, the hash of `identity`."""
        return fingerprint(self.identity)


def _no_configuration(received: object, error: Exception) -> LotteryError:
    return LotteryError("A configuration must be a JSON object of its settings. "
                        f"Received: {received!r:.60} ({error!r:.100}).")
