"""The lab: where one round of an experiment is done, from a ticket to the next.

    1. Start from the ticket: theta_0 and its mask.  At level 0, draw theta_0.
    2. Train it for `steps` steps.
    3. Prune the lowest scores of what remains, by the trained weights.
    4. Rewind the survivors to theta_0: the ticket of the next level.

The control "reinit" is trained beside it: the ticket's mask, and weights drawn anew
(Frankle & Carbin, ICLR 2019, sections 1 and 2).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from lth_keras import criteria, feed, models, provenance
from lth_keras.config import Config
from lth_keras.data import Data
from lth_keras.errors import LotteryError
from lth_keras.experiment import Outcome, Speed
from lth_keras.fractions import count, resolve
from lth_keras.masks import Array, density, ones
from lth_keras.prune import prune
from lth_keras.randomness import generator
from lth_keras.record import Training
from lth_keras.ticketfile import Contents
from lth_keras.train import Plan, Trained, Trainer
from lth_keras.weights import masked
from lth_keras.wrap import prune_low_magnitude


class Lab:
    """The network of a configuration, compiled once, and its data.

    Args:
      config: the settings.
      data: the data set that they name.
      strategy: a tf.distribute strategy to train under; by default the current one.
      resident_mib: data larger than so many MiB are streamed to the device.

    Raises:
      LotteryError: if the settings fit the network or the data set not.
    """

    def __init__(self, config: Config, data: Data, strategy: "tf.distribute.Strategy | None" = None,
                 resident_mib: int = feed.RESIDENT_MIB):
        self._config = config
        self._examples = len(data.y_train)
        _check_examples(config, self._examples)
        with (strategy or tf.distribute.get_strategy()).scope():
            self._model = prune_low_magnitude(
                models.build(config, data.input_shape, data.classes))
            models.compile_model(self._model, config)
        _check_rounds(config, self._model)
        self._trainer = Trainer(self._model, data, config.augmentation, resident_mib)

    def measure(self) -> Speed:
        """Compiles, and measures the speed of the dense network."""
        training = Training(0, 0)
        return self._trainer.measure(self._plan(training, self._first_ticket(training)))

    def train(self, training: Training, ticket: "Contents | None",
              on_interval: Callable[[int], None] = lambda steps: None) -> Outcome:
        """One round from a ticket, or a control's training.

        Args:
          training: which.
          ticket: the level's ticket; at level 0 it is drawn if there is none yet.
          on_interval: called after each validation with the steps since the last.
        """
        drawn = self._first_ticket(training) if ticket is None else None
        start = drawn or ticket
        assert start is not None
        control = _CONTROLS.get(training.branch)
        trained = self._trainer.train(
            self._plan(training, control(self, training, start) if control else start),
            on_interval)
        return Outcome(result={"density": density(start.masks), **trained.result},
                       curve=trained.curve, drawn=drawn,
                       following=None if control or trained.diverged
                       else self._prune(training, start, trained))

    def _first_ticket(self, training: Training) -> Contents:
        drawn = models.initial_weights(self._model, self._rng(training, "init"))
        masks = ones({name: np.shape(drawn[name]) for name in masked(self._model)})
        return Contents(drawn, masks, 0, self._provenance(training, {}))

    def _reinit(self, training: Training, ticket: Contents) -> Contents:
        drawn = models.initial_weights(self._model, self._rng(training, "init"))
        return dataclasses.replace(ticket, weights=drawn)

    def _plan(self, training: Training, start: Contents) -> Plan:
        config, (train, validation) = self._config, self._split(training.replicate)
        ordered_as = training if config.data_order == "fresh" else Training(training.replicate, 0)
        return Plan(weights=start.weights, masks=start.masks, train=train, validation=validation,
                    order=self._rng(ordered_as, "data_order"), steps=config.steps,
                    validation_every=config.validation_every, batch_size=config.batch_size,
                    seed=int(self._rng(ordered_as, "draws").integers(2**31 - 2**16)))

    def _prune(self, training: Training, ticket: Contents, trained: Trained) -> Contents:
        score, rng = criteria.get(self._config.criterion), self._rng(training, "criterion")
        scores = {name: score(ticket.weights[name], trained.weights[name], rng)
                  for name in ticket.masks}
        fractions = resolve(self._config.fraction,
                            [item.prunable for item in masked(self._model).values()])
        masks = prune(scores, ticket.masks, fractions, self._config.scope)
        measured = {name: value for name, value in trained.result.items()
                    if name not in ("seconds", "diverged_at_step")}
        return Contents(ticket.weights, masks, training.level + 1,
                        self._provenance(training, measured))

    def _split(self, replicate: int) -> tuple[Array, Array]:
        shuffled = self._rng(Training(replicate, 0), "split").permutation(self._examples)
        held_out = self._config.validation_size
        return np.sort(shuffled[held_out:]), np.sort(shuffled[:held_out])

    def _rng(self, training: Training, purpose: str) -> np.random.Generator:
        return generator(self._config.seed, purpose, replicate=training.replicate,
                         level=training.level, branch=training.branch,
                         branch_index=training.branch_index)

    def _provenance(self, training: Training, measured: dict[str, Any]) -> dict[str, Any]:
        return {"versions": provenance.versions(), "settings": self._config.identity,
                "fingerprint": self._config.fingerprint, "seed": self._config.seed,
                "replicate": training.replicate, "dataset": self._config.dataset,
                "pruned_after": measured}


# What each control starts from, in place of the ticket.
_CONTROLS: dict[str, Callable[[Lab, Training, Contents], Contents]] = {"reinit": Lab._reinit}


def _check_examples(config: Config, examples: int) -> None:
    if config.validation_size + config.batch_size > examples:
        raise LotteryError(
            f"validation_size and batch_size must leave examples to train on: {config.dataset} "
            f"has {examples:,}. Received: validation_size={config.validation_size}, "
            f"batch_size={config.batch_size}.")


def _check_rounds(config: Config, model: Any) -> None:
    weights = masked(model)
    fractions = resolve(config.fraction, [item.prunable for item in weights.values()])
    left = {name: int(np.prod(item.weight.shape)) for name, item in weights.items()}
    for level in range(1, config.rounds + 1):
        left = {name: size - count(fractions[name], size) for name, size in left.items()}
        if not any(left.values()):
            raise LotteryError(f"A level must keep a weight. Received: rounds={config.rounds}, "
                               f"fraction={config.fraction}, which keep none at level {level}.")
