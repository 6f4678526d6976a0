"""Fits of one small model that are killed in a hook and go on from their workdir."""

import numpy as np
import tensorflow as tf
import tf_keras as keras
from dying import Death, Dies
from networks import BATCH, compiled, STEPS, X, Y
from tf_keras.src.backend import RandomGenerator

import lth_keras as lth
from lth_keras.keras2 import optimizer_state, random_generators, rewinding
from lth_keras.keras2.masking import weight_names
from lth_keras.keras2.rewinding import Snapshot

layers = keras.layers
callbacks = keras.callbacks


def network():
    keras.utils.set_random_seed(3)
    random = layers.GaussianNoise(0.1)
    random._random_generator = RandomGenerator(7, rng_type="stateful")
    return lth.prune_low_magnitude(keras.Sequential([
        layers.Input((6,)), layers.Dense(8), layers.BatchNormalization(), layers.ReLU(), random,
        layers.Dense(2)]))


def draws(model):
    return [generator.state for generator in random_generators.generators(model)]


class Fits:
    """Fits of one model, compiled once, each from the same beginning."""

    def __init__(self, optimizer):
        self.model = compiled(network(), optimizer)
        self._begun = Snapshot.of(self.model)
        self._draws = draws(self.model)
        self._state = [variable.numpy() for variable in self._draws]

    def begin(self):
        """A new process, as it were: everything as the script makes it."""
        rewinding.assign_masks(self.model, {name: np.ones_like(mask) for name, mask
                                         in rewinding.read_masks(self.model).items()})
        self._begun.restore_all(self.model)
        for item in weight_names.masked(self.model).values():
            item.threshold.assign(0)
        for variable, value in zip(self._draws, self._state, strict=True):
            variable.assign(value)
        return self.model

    def fit(self, root, *others, first=(), shuffled=True, epochs=None, **options):
        """A search to its end, or to the death of its process; then None."""
        self.begin()
        options = {"rounds": 2, "fraction": 0.3, "check": True, "verbose": 0, "workdir": root,
                   **({} if "steps_per_round" in options else {"epochs_per_round": 3}), **options}
        lottery = lth.LotteryTicketCallback(**options)
        data = lottery.order.batches(X, Y, batch_size=BATCH) if shuffled \
            else tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)
        try:
            history = self.model.fit(
                data, epochs=lottery.epochs_for(STEPS) if epochs is None else epochs, verbose=0,
                validation_data=(X[:8], Y[:8]), callbacks=[*first, lottery, *others])
        except Death:
            return None
        return Ended(self.model, lottery, history)


class Ended:
    """What a search came to, without times."""

    def __init__(self, model, lottery, history):
        self.lottery = lottery
        self.facts = (
            lottery.results.drop(columns="seconds").to_csv(), history.history, history.epoch,
            lottery.restored, [variable.numpy().tobytes() for variable in model.weights],
            [variable.numpy().tobytes() for variable in optimizer_state.variables(model)],
            [variable.numpy().tobytes() for variable in draws(model)])
        self.tickets = lottery.tickets

    def __eq__(self, other):
        return self.facts == other.facts and self.tickets == other.tickets

    __hash__ = None


def tickets(root):
    return {str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("ticket.safetensors")}


class Logs(callbacks.Callback):
    """Adds a log, and stops the fit after an epoch."""

    def __init__(self, value=0.0, last=None):
        super().__init__()
        self.value, self.last = value, last

    def on_epoch_end(self, epoch, logs=None):
        logs["added"] = self.value
        self.model.stop_training |= epoch == self.last


def killed(fits, folder, options):
    """The same search killed now and then, and in one fit: they end in the same."""
    expected = fits.fit(folder / "whole", **options())
    for count in (3, 7, 11, 19):
        if fits.fit(folder / "killed", Dies("on_train_batch_end", count), **options()) is not None:
            break
    assert fits.fit(folder / "killed", **options()) == expected
    assert tickets(folder / "killed") == tickets(folder / "whole")
    return expected
