"""Models as Keras' own examples make them: parts, a train_step, and no call."""

import faults
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import is_built, masked, wrappers

layers = keras.layers
X = faults.X


class Pair(keras.Model):
    """Two networks, one after the other, that it trains together."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def train_step(self, x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.decoder(self.encoder(x, training=True),
                                                training=True) - x) ** 2)
        self.optimizer.minimize(loss, self.trainable_weights, tape=tape)
        return {"loss": loss}


def part(size):
    return keras.Sequential([layers.Input((6,)), layers.Dense(size, "tanh"), layers.Dense(6)])


HOW = {"whole": lambda: lth.prune_low_magnitude(Pair(part(8), part(7))),
       "parts": lambda: Pair(*map(lth.prune_low_magnitude, (part(8), part(7)))),
       "one part": lambda: lth.prune_low_magnitude(Pair(lth.prune_low_magnitude(part(8)), part(7))),
       "deep": lambda: lth.prune_low_magnitude(Pair(Pair(part(8), part(7)), part(7)).encoder)}


@pytest.mark.parametrize("how", ["whole", "parts", "one part"])
def test_it_is_wrapped_searched_applied_and_stripped(how):
    keras.utils.set_random_seed(0)
    model = HOW[how]()
    model.compile("adam")
    lottery = lth.LotteryTicketCallback(rounds=2, epochs_per_round=1, fraction=0.5, verbose=0,
                                        check=True)
    model.fit(X, epochs=3, verbose=0, callbacks=[lottery])
    assert sorted(lottery.ticket.masks) == [
        "decoder/dense/kernel", "decoder/dense_1/kernel", "encoder/dense/kernel",
        "encoder/dense_1/kernel"]
    assert lottery.ticket.density == pytest.approx(0.25, abs=0.01)
    fresh = Pair(part(8), part(7))
    lottery.ticket.apply(fresh)
    assert set(masked(fresh)) == set(lottery.ticket.masks)
    outputs = model.decoder(model.encoder(X[:4])).numpy()
    stripped = lth.strip_pruning(model)
    assert not wrappers(stripped)
    np.testing.assert_array_equal(stripped.decoder(stripped.encoder(X[:4])), outputs)


def test_it_is_wrapped_at_any_depth():
    model = HOW["deep"]()
    assert len(masked(model)) == 4


def test_parts_that_are_not_built_are_refused():
    unbuilt = Pair(keras.Sequential([layers.Dense(3)]), part(7))
    assert not is_built(unbuilt)
    with pytest.raises(LotteryError, match="must be built before|must be built"):
        lth.prune_low_magnitude(unbuilt)


def test_it_passes_verify():
    def build():
        model = Pair(part(8), part(7))
        model.compile("adam")
        return model
    report = lth.verify(build, X, steps=4)
    assert report.ok, str(report)
