"""A fit with a workdir that is to be killed, as a process of its own, on any engine.

Nothing here imports a Keras before `main` does: on JAX it is a process of its own that chooses.
"""

import hashlib
import importlib
import os
import pathlib

import numpy as np
from dying import Dies, kill

import lth_keras as lth
from lth_keras.search.fit.hooks import Hooks

ENGINES = ("tf_keras", "tensorflow", "jax")  # Keras 2, and Keras 3 on each of these backends.
OF_FILTERS = " filters"  # After an engine: whole filters are pruned, until the network costs less.
UNITS, EPOCHS, ROUNDS = 384, 4, 3


class Begun(Hooks):
    """Says when training begins."""

    def __init__(self, say):
        self._say = say

    def on_train_batch_end(self, batch, logs=None):
        if self._say is not None:
            self._say("begun")
            self._say = None


def keras_of(engine):
    """The Keras of an engine; its backend is chosen when it is imported first."""
    engine = engine.removesuffix(OF_FILTERS)
    if engine == "tf_keras":
        keras = importlib.import_module("tf_keras")
        keras.backend.experimental.enable_tf_random_generator()
        return keras
    os.environ["KERAS_BACKEND"] = engine
    keras = importlib.import_module("keras")
    assert keras.backend.backend() == engine
    return keras


def network(keras, filters):
    layers = keras.layers
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        layers.Input((12,)), layers.Dense(UNITS, "relu"), layers.BatchNormalization(),
        layers.Dropout(0.2), layers.Dense(UNITS, "relu"), layers.Dense(2)])
    if keras.__name__ == "tf_keras":
        model = lth.prune_low_magnitude(model, structure="filters" if filters else None)
    rate = keras.optimizers.schedules.ExponentialDecay(0.003, 20, 0.9)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=5.0), "mse", metrics=["mae"])
    return model


def digest(arrays):
    return hashlib.sha256(b"".join(np.asarray(array).tobytes() for array in arrays)).hexdigest()


def search(engine, workdir, *others):
    """Searches to the end; returns what came of it, without times."""
    keras = keras_of(engine)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 12)).astype(np.float32)
    y = np.tanh(x @ rng.normal(size=(12, 2))).astype(np.float32)
    filters = engine.endswith(OF_FILTERS)
    model = network(keras, filters)
    # 0.7 x 0.7 is below it: level 2 of 3 is the last.
    more = {"until": {"weights": 0.5}} if filters else {}
    if filters and engine != "tf_keras" + OF_FILTERS:
        more["structure"] = "filters"
    stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    lottery = lth.LotteryTicketCallback(
        rounds=ROUNDS, epochs_per_round=EPOCHS, fraction=0.3, rewind_step=7, check=True,
        verbose=0, workdir=workdir, round_callbacks=[stopping],
        provenance={"data": "drawn"}, **more)
    history = model.fit(lottery.order.batches(x[:64], y[:64], batch_size=16), verbose=0,
                        epochs=lottery.epochs, validation_data=(x[64:], y[64:]),
                        callbacks=[lottery, *others])
    files = sorted(pathlib.Path(workdir).rglob("ticket.safetensors"))
    return {"tickets": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
            "results": lottery.results.drop(columns="seconds").to_csv(),
            "history": history.history, "epochs": history.epoch,
            "weights": digest(model.get_weights()),
            "optimizer": digest(map(np.asarray, model.optimizer.variables))}


def main(pipe, engine, workdir, *moment):
    """A process: says "begun" when training begins, and in the end what the search came to."""
    others = [Dies(*moment, kill)] if moment else []
    pipe.send(search(engine, workdir, Begun(pipe.send), *others))
