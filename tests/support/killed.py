"""A fit with a workdir that is to be killed, as a process of its own."""

import hashlib
import os
import pathlib
import signal

import numpy as np
import tf_keras as keras

import lth_keras as lth

UNITS, EPOCHS, ROUNDS = 384, 4, 3


class Dies(keras.callbacks.Callback):
    """Kills the process in a call of a hook, or of os.fsync or os.replace, which every file
    that is written goes through."""

    def __init__(self, moment, count):
        super().__init__()
        die = at(count)
        if moment.startswith("on_"):
            setattr(self, moment, lambda *arguments, **options: die())
        else:
            original = getattr(os, moment)
            setattr(os, moment, lambda *arguments: die() or original(*arguments))


class Begun(keras.callbacks.Callback):
    """Says when training begins."""

    def __init__(self, say):
        super().__init__()
        self._say = say

    def on_train_batch_end(self, batch, logs=None):
        if self._say is not None:
            self._say("begun")
            self._say = None


def at(count):
    """A function that kills the process when it is called for the last of so many times."""
    left = [count]

    def die():
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    return die


def network():
    layers = keras.layers
    keras.utils.set_random_seed(1)
    keras.backend.experimental.enable_tf_random_generator()
    model = lth.prune_low_magnitude(keras.Sequential([
        layers.Input((12,)), layers.Dense(UNITS, "relu"), layers.BatchNormalization(),
        layers.Dropout(0.2), layers.Dense(UNITS, "relu"), layers.Dense(2)]))
    rate = keras.optimizers.schedules.ExponentialDecay(0.003, 20, 0.9)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=5.0), "mse", metrics=["mae"])
    return model


def digest(arrays):
    return hashlib.sha256(b"".join(np.asarray(array).tobytes() for array in arrays)).hexdigest()


def search(workdir, *others):
    """Searches to the end; returns what came of it, without times."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 12)).astype(np.float32)
    y = np.tanh(x @ rng.normal(size=(12, 2))).astype(np.float32)
    model = network()
    stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    lottery = lth.LotteryTicketCallback(
        rounds=ROUNDS, epochs_per_round=EPOCHS, fraction=0.3, rewind_step=7, check=True,
        verbose=0, workdir=workdir, round_callbacks=[stopping], provenance={"data": "drawn"})
    history = model.fit(lottery.order.batches(x[:64], y[:64], batch_size=16), verbose=0,
                        epochs=lottery.epochs, validation_data=(x[64:], y[64:]),
                        callbacks=[lottery, *others])
    files = sorted(pathlib.Path(workdir).rglob("ticket.safetensors"))
    return {"tickets": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
            "results": lottery.results.drop(columns="seconds").to_csv(),
            "history": history.history, "epochs": history.epoch,
            "weights": digest(model.get_weights()),
            "optimizer": digest(variable.numpy() for variable in model.optimizer.variables)}


def main(pipe, workdir, *moment):
    """A process: says "begun" when training begins, and in the end what the search came to."""
    pipe.send(search(workdir, Begun(pipe.send), *([Dies(*moment)] if moment else [])))
