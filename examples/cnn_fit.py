"""Winning tickets of your own network, inside your own `model.fit`.

A convolutional network with batch normalisation is searched in one XLA-compiled `fit`:
its learning-rate schedule starts over in every round, and early stopping ends rounds,
not the search.  The best ticket, the sparsest that loses no accuracy on the validation
examples, is then saved, loaded into a freshly built network and trained there, as it would
be on another machine.

    python examples/cnn_fit.py
"""

import pathlib
import tempfile

import numpy as np
import tf_keras as keras
from absl import app, flags
from sklearn.datasets import load_digits

import lth_keras as lth

FLAGS = flags.FLAGS
flags.DEFINE_integer("rounds", 8, "How many times the network is pruned.", lower_bound=1)
flags.DEFINE_integer("epochs", 15, "Epochs of each round at most.", lower_bound=1)
flags.DEFINE_string("ticket", None, "Where to save the ticket (default: a temporary file).")

BATCH = 64


def digits():
    """scikit-learn's digits as 8x8x1 images in [0, 1]: training, validation, test."""
    bunch = load_digits()
    x, y = bunch.images[..., None].astype(np.float32) / 16, bunch.target
    order = np.random.default_rng(0).permutation(len(y))
    parts = np.split(order, [1197, 1497])
    return [(x[part], y[part]) for part in parts]


def network():
    layers = keras.layers
    return keras.Sequential([
        layers.Input((8, 8, 1)),
        layers.Conv2D(32, 3, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
        layers.Conv2D(64, 3, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(64, "relu"),
        layers.Dense(10),
    ])


def compile_network(model, steps):
    schedule = keras.optimizers.schedules.ExponentialDecay(
        5e-3, decay_steps=steps // 4, decay_rate=0.5)
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"], jit_compile=True)


def main(_):
    keras.utils.set_random_seed(0)
    train, validation, test = digits()
    steps = FLAGS.epochs * -(-len(train[1]) // BATCH)

    model = lth.prune_low_magnitude(network())
    compile_network(model, steps)
    lottery = lth.LotteryTicketCallback(
        rounds=FLAGS.rounds, epochs_per_round=FLAGS.epochs,
        fraction={"default": 0.3, "output": 0.15},
        round_callbacks=[keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)])
    model.fit(*train, batch_size=BATCH, validation_data=validation, epochs=lottery.epochs,
              callbacks=[lottery], verbose=0)
    columns = ["level", "density", "epochs", "early_stop_step", "val_loss_min", "val_accuracy"]
    print(lottery.results[columns].to_string(index=False, float_format="{:.4f}".format))

    with tempfile.TemporaryDirectory() as folder:
        path = FLAGS.ticket or str(pathlib.Path(folder) / "winner.ticket")
        lottery.best.save(path)
        elsewhere = lth.Ticket.load(path).apply(network())
    compile_network(elsewhere, steps)
    elsewhere.fit(*train, batch_size=BATCH, epochs=FLAGS.epochs, verbose=0)
    kept = {name: f"{(array != 0).mean():.1%}" for name, array in lottery.best.masks.items()}
    print(f"\nkept by layer: {kept}")
    accuracy = elsewhere.evaluate(*test, verbose=0)[1]
    print(f"the ticket of level {lottery.best.level} trained anew: density "
          f"{lottery.best.density:.2%}, test accuracy {accuracy:.2%}")


if __name__ == "__main__":
    app.run(main)
