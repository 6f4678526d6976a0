"""The experiment, as in the paper: train, prune, rewind, and train the controls.

    1. Draw theta_0.
    2. Train it for `steps` steps.
    3. Prune the lowest scores of what remains, by the trained weights.
    4. Rewind the survivors to theta_0: the ticket of the next level.  Go to 2.

Beside each ticket its controls are trained: "reinit" has the ticket's mask and weights
drawn anew (Frankle & Carbin, ICLR 2019, sections 1 and 2).  What is done already is
found in the store and not done again.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from lth_keras import criteria, models, provenance, ticketfile
from lth_keras.config import Config
from lth_keras.data import Data
from lth_keras.errors import LotteryError
from lth_keras.fractions import count, resolve
from lth_keras.masks import Array, density, ones
from lth_keras.prune import prune
from lth_keras.randomness import generator
from lth_keras.store import Store, Training
from lth_keras.ticketfile import Contents
from lth_keras.train import Plan, Trained, Trainer
from lth_keras.weights import masked
from lth_keras.wrap import prune_low_magnitude


class Watch(Protocol):
    """Who follows a run: the command's progress display, a test."""

    def begin(self, training: Training, density: float) -> None:
        """A training starts."""

    def steps(self, count: int) -> None:
        """So many more steps are done."""

    def end(self, training: Training, result: dict[str, Any]) -> None:
        """A training is finished."""


class Experiment:
    """All trainings of one configuration on one data set.

    Args:
      config: the settings.
      data: the data set that they name.
      store: where results are kept and found.
      watch: is told of every training.

    """

    def __init__(self, config: Config, data: Data, store: Store, watch: Watch):
        self.config = config
        self.data = data
        self.store = store
        self.watch = watch

    def run(self) -> None:
        """Trains whatever of the configuration is not done yet."""
        for replicate in range(self.config.replicates):
            for level in range(self.config.rounds + 1):
                self._train_ticket(replicate, level)
                for branch in self.config.branches[1:] if level else ():
                    self._train_control(Training(replicate, level, branch))
        self.store.write_results()

    def _train_ticket(self, replicate: int, level: int) -> None:
        training, following = Training(replicate, level), self.store.ticket(replicate, level + 1)
        if self.store.is_done(training) and following.exists():
            return
        ticket = self._ticket(replicate, level)
        trained = self._train(training, ticket)
        # That of the last level too, so that more rounds can go on from it.
        ticketfile.write(following, self._prune(training, ticket, trained))
        self.store.finish(training, {"density": density(ticket.masks), **trained.result},
                          trained.curve)

    def _train_control(self, training: Training) -> None:
        if self.store.is_done(training):
            return
        ticket = self._ticket(training.replicate, training.level)
        drawn = models.initial_weights(self._model, self._rng(training, "init"))
        control = dataclasses.replace(ticket, weights=drawn)
        trained = self._train(training, control)
        self.store.finish(training, {"density": density(ticket.masks), **trained.result},
                          trained.curve)

    def _ticket(self, replicate: int, level: int) -> Contents:
        path = self.store.ticket(replicate, level)
        if level == 0 and not path.exists():
            training = Training(replicate, 0)
            drawn = models.initial_weights(self._model, self._rng(training, "init"))
            masks = ones({name: np.shape(drawn[name]) for name in masked(self._model)})
            ticketfile.write(path, Contents(drawn, masks, 0, self._provenance(training, {})))
        return ticketfile.read(path)

    def _prune(self, training: Training, ticket: Contents, trained: Trained) -> Contents:
        score, rng = criteria.get(self.config.criterion), self._rng(training, "criterion")
        scores = {name: score(ticket.weights[name], trained.weights[name], rng)
                  for name in ticket.masks}
        fractions = resolve(self.config.fraction,
                            [item.prunable for item in masked(self._model).values()])
        masks = prune(scores, ticket.masks, fractions, self.config.scope)
        measured = {name: value for name, value in trained.result.items() if name != "seconds"}
        return Contents(ticket.weights, masks, training.level + 1,
                        self._provenance(training, measured))

    def _train(self, training: Training, start: Contents) -> Trained:
        config, (train, validation) = self.config, self._split(training.replicate)
        ordered_as = training if config.data_order == "fresh" else Training(training.replicate, 0)
        self.watch.begin(training, density(start.masks))
        trained = self._trainer.train(
            Plan(weights=start.weights, masks=start.masks, train=train, validation=validation,
                 order=self._rng(ordered_as, "data_order"), steps=config.steps,
                 validation_every=config.validation_every, batch_size=config.batch_size),
            self.watch.steps)
        self.watch.end(training, trained.result)
        return trained

    def _split(self, replicate: int) -> tuple[Array, Array]:
        shuffled = self._rng(Training(replicate, 0), "split").permutation(len(self.data.y_train))
        held_out = self.config.validation_size
        return np.sort(shuffled[held_out:]), np.sort(shuffled[:held_out])

    def _rng(self, training: Training, purpose: str) -> np.random.Generator:
        return generator(self.config.seed, purpose, replicate=training.replicate,
                         level=training.level, branch=training.branch,
                         branch_index=training.branch_index)

    def _provenance(self, training: Training, measured: dict[str, Any]) -> dict[str, Any]:
        return {"versions": provenance.versions(), "settings": self.config.identity,
                "fingerprint": self.config.fingerprint, "seed": self.config.seed,
                "replicate": training.replicate, "dataset": self.config.dataset,
                "pruned_after": measured}

    @functools.cached_property
    def _model(self) -> Any:
        model = models.build(self.config, self.data.input_shape, self.data.classes)
        model = prune_low_magnitude(model)
        models.compile_model(model, self.config)
        return model

    @functools.cached_property
    def _trainer(self) -> Trainer:
        return Trainer(self._model, self.data)


def check(config: Config, data: Data) -> None:
    """The settings fit each other, the network and the data, before anything is trained.

    Raises:
      LotteryError: if not.
    """
    examples = len(data.y_train)
    if config.validation_size + config.batch_size > examples:
        raise LotteryError(
            f"validation_size and batch_size must leave examples to train on: {config.dataset} "
            f"has {examples:,}. Received: validation_size={config.validation_size}, "
            f"batch_size={config.batch_size}.")
    model = prune_low_magnitude(models.build(config, data.input_shape, data.classes))
    weights = masked(model)
    fractions = resolve(config.fraction, [item.prunable for item in weights.values()])
    left = {name: int(np.prod(item.weight.shape)) for name, item in weights.items()}
    for level in range(1, config.rounds + 1):
        left = {name: size - count(fractions[name], size) for name, size in left.items()}
        if not any(left.values()):
            raise LotteryError(f"A level must keep a weight. Received: rounds={config.rounds}, "
                               f"fraction={config.fraction}, which keep none at level {level}.")


def trainings(config: Config) -> Iterator[Training]:
    """Every training of a configuration, in the order in which it is run."""
    for replicate in range(config.replicates):
        for level in range(config.rounds + 1):
            for branch in config.branches if level else ("ticket",):
                yield Training(replicate, level, branch)
