"""Keras' ModelCheckpoint among round_callbacks, which see every round as a training of its own."""

import keras as keras3
import numpy as np
import pytest
import tf_keras

import lth_keras as lth

X = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
Y = np.eye(3)[np.arange(16) % 3]


def compiled(keras):
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(8, name="a"),
                              keras.layers.Dense(3, name="b")])
    if keras is tf_keras:
        model = lth.prune_low_magnitude(model)
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(("threshold", "kept"), [(None, (2, 1)), (-15.0, (1, 1))])
@pytest.mark.parametrize("keras", [tf_keras, keras3], ids=["tf_keras", "keras3"])
def test_the_best_of_a_round_is_not_held_against_the_next(keras, threshold, kept, tmp_path):
    path, after = f"{tmp_path}/best.weights.h5", {}

    class Falling(keras.callbacks.Callback):  # Best in the second epoch, and worse at each level.
        level = -1

        def on_train_begin(self, logs=None):
            self.level += 1

        def on_epoch_end(self, epoch, logs=None):
            logs["score"] = (0.0, 1.0, 0.5)[epoch] - 10 * self.level
            after[self.level, epoch] = self.model.get_weights()

    save = keras.callbacks.ModelCheckpoint(
        path, "score", save_best_only=True, save_weights_only=True, mode="max",
        initial_value_threshold=threshold)
    lottery = lth.LotteryTicketCallback(rounds=2, epochs_per_round=3, fraction=0.5, verbose=0,
                                        round_callbacks=[Falling(), save])
    compiled(keras).fit(X, Y, epochs=lottery.epochs, callbacks=[lottery], verbose=0)
    loaded = compiled(keras)
    loaded.load_weights(path)
    for one, other in zip(loaded.get_weights(), after[kept], strict=True):
        np.testing.assert_array_equal(one, other)
