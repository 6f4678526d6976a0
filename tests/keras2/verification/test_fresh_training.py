"""A rewound level is a fresh training of its ticket, bit for bit, where once it was not."""

import faults
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from dying import Death, Dies
from tiers import short_and_long

import lth_keras as lth
from lth_keras.keras2 import optimizer_state
from lth_keras.keras2.masking.weight_names import masked
from lth_keras.keras2.verification.trained import batches_of, compiled_as, train

pytestmark = pytest.mark.thorough

NOISE = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)
CASES = {"two optimizers": faults.FAULTS["two optimizers"],
         "two optimizers, noise given": (faults.gan, (faults.X, NOISE)),
         "stateful": faults.FAULTS["stateful"],
         "add_loss": faults.FAULTS["add_loss, functional"],
         "trainable_weights[0]": faults.FAULTS["trainable_weights[0]"]}


def wrapped(build):
    keras.utils.set_random_seed(5)
    model = build()
    return compiled_as(lth.prune_low_magnitude(model), model)


@pytest.mark.parametrize("name", short_and_long(
    CASES, ["two optimizers, noise given", "stateful", "add_loss"]))
def test_a_rewound_level_is_a_fresh_training_of_its_ticket(name):
    build, data = CASES[name]
    batches = batches_of(data, 6)
    model = wrapped(build)
    search = lth.Search(model, fraction=0.5, check=True)
    train(model, batches, 1, search.enforce)
    search.prune_and_rewind()
    rewound = train(model, batches, 1, search.enforce)
    fresh = wrapped(build)
    for item in masked(fresh).values():
        item.weight.assign(item.weight * 0)
    search.tickets[1].apply(fresh)
    optimizer_state.build(fresh)  # What a graph draws goes by how many operations it has.
    again = train(fresh, batches, 1)
    assert rewound.first_difference(again) == {}
    assert all(not rewound.final[weight][mask == 0].any()
               for weight, mask in search.masks.items())
    for one, other in zip(optimizer_state.variables(model), optimizer_state.variables(fresh),
                          strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes(), one.name


@pytest.mark.parametrize("name", ["two optimizers, noise given", "stateful"])
def test_a_search_that_is_interrupted_ends_in_the_same_bits(name, tmp_path):
    build, data = CASES[name]

    def search(root, *others):
        model = wrapped(build)
        lottery = lth.LotteryTicketCallback(rounds=2, epochs_per_round=2, fraction=0.5, verbose=0,
                                            check=True, workdir=root)
        batches = tf.data.Dataset.from_tensor_slices(data).batch(32)
        model.fit(batches, epochs=lottery.epochs, verbose=0, callbacks=[lottery, *others])
        return lottery.tickets, [weight.numpy().tobytes() for weight in model.weights]
    whole = search(tmp_path / "whole")
    with pytest.raises(Death):
        search(tmp_path / "killed", Dies("on_epoch_begin", 4))
    assert search(tmp_path / "killed") == whole
