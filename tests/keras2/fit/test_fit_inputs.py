"""Every way to give `fit` its data: the search is the one that arrays in order give."""

import itertools

import fits
import networks
import numpy as np
import pytest
import tf_keras as keras
from fits import assert_same_bits, INPUTS, numbers
from networks import BATCH, compiled, lottery, STEPS, X, Y
from tiers import short_and_long

import lth_keras as lth
from lth_keras.errors import LotteryError


def setup_function():
    keras.utils.set_random_seed(0)


def searched(fit, options=None, **compile_options):
    """A model and its search, fitted by a function of both."""
    model = compiled(lth.prune_low_magnitude(networks.mlp()), **compile_options)
    search = lottery(**{"epochs_per_round": 2, "fraction": 0.3, **(options or {})})
    fit(model, search)
    assert networks.strays(model) == 0
    return model, search


@pytest.fixture(scope="module")
def in_order():
    """What arrays in order lead to."""
    keras.utils.set_random_seed(0)
    model, search = searched(INPUTS["NumPy arrays"])
    return numbers(model), search


# With workers an epoch of Keras takes five seconds.
@pytest.mark.parametrize("name", short_and_long(
    INPUTS, [name for name in INPUTS if "workers" not in name and "tensors" not in name]))
def test_the_data_in_order_gives_the_same_tickets_however_it_comes(name, in_order):
    model, search = searched(INPUTS[name])
    expected, reference = in_order
    assert_same_bits(numbers(model), expected)
    assert search.results.steps.tolist() == [2 * STEPS] * 3
    assert search.results.epochs.tolist() == [2] * 3
    for ours, theirs in zip(search.tickets, reference.tickets, strict=True):
        assert_same_bits([*ours.masks.values()], [*theirs.masks.values()])


@pytest.mark.parametrize(("name", "execution"), short_and_long(
    itertools.product(["NumPy arrays", "Python generator", "tf.data, repeated"],
                      [2, 4, 9, "auto"]),
    [("NumPy arrays", 9), ("tf.data, repeated", 2), ("Python generator", "auto")]))
def test_several_steps_an_execution(name, execution, in_order):
    _, search = searched(INPUTS[name], steps_per_execution=execution)
    assert search.results.steps.tolist() == [2 * STEPS] * 3
    for ours, theirs in zip(search.tickets, in_order[1].tickets, strict=True):
        assert_same_bits([*ours.masks.values()], [*theirs.masks.values()])


def test_run_eagerly(in_order):
    _, search = searched(INPUTS["NumPy arrays"], run_eagerly=True)
    for ours, theirs in zip(search.tickets, in_order[1].tickets, strict=True):
        assert_same_bits([*ours.masks.values()], [*theirs.masks.values()])


def test_weights_of_examples_decide_what_is_pruned():
    # Examples of weight 0 are as if they were not there.
    weights = np.repeat([1.0, 0.0], len(X) // 2)

    def weighted(model, search):
        model.fit(X, Y, sample_weight=weights, batch_size=len(X), epochs=search.epochs,
                  shuffle=False, verbose=0, callbacks=[search])

    def without_them(model, search):
        half = len(X) // 2
        model.fit(X[:half], Y[:half], sample_weight=np.full(half, 0.5), batch_size=half,
                  epochs=search.epochs, shuffle=False, verbose=0, callbacks=[search])
    found = []
    for fit in (weighted, without_them, INPUTS["NumPy arrays"]):
        keras.utils.set_random_seed(0)
        _, search = searched(fit, {"epochs_per_round": 6}, optimizer=keras.optimizers.Adam(0.1))
        found.append(np.concatenate([mask.ravel() for mask in search.ticket.masks.values()]))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_class_weights():
    labels = np.arange(len(X)) % 2

    def fit(weights):
        def run(model, search):
            return model.fit(X, labels, batch_size=BATCH, epochs=search.epochs, shuffle=False,
                             verbose=0, callbacks=[search], class_weight=weights)
        return run
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = []
    for weights in ({0: 2.0, 1: 2.0}, {0: 2.0, 1: 0.0}):
        keras.utils.set_random_seed(0)
        found.append(searched(fit(weights), loss=loss)[1])
    assert found[0].results.density.tolist() == found[1].results.density.tolist()
    assert found[0].results.loss.iloc[0] != found[1].results.loss.iloc[0]


def test_a_validation_split_is_not_trained_on():
    def fit(model, search):
        model.fit(X, Y, validation_split=0.25, batch_size=BATCH, epochs=search.epochs,
                  shuffle=False, verbose=0, callbacks=[search])
    _, search = searched(fit)
    assert search.results.steps.tolist() == [2 * (STEPS - 1)] * 3
    assert search.results.val_loss_min.notna().all()


@pytest.mark.parametrize("frequency", [2, [2, 4, 6]])
def test_validation_now_and_then(frequency):
    def fit(model, search):
        model.fit(X, Y, validation_data=fits.dataset(), validation_freq=frequency,
                  batch_size=BATCH, epochs=search.epochs, shuffle=False, verbose=0,
                  callbacks=[search])
    _, search = searched(fit)
    assert search.results.early_stop_step.tolist() == [2 * STEPS] * 3
    assert (search.results.val_loss_min == search.results.val_loss).all()


def test_validation_data_as_a_dataset_that_repeats():
    def fit(model, search):
        model.fit(X, Y, validation_data=fits.dataset().repeat(), validation_steps=2,
                  batch_size=BATCH, epochs=search.epochs, verbose=0, callbacks=[search])
    _, search = searched(fit)
    assert search.results.val_loss_min.notna().all()


def test_one_fit_after_another_goes_on_from_the_masks_of_the_last():
    model = compiled(lth.prune_low_magnitude(networks.mlp()))
    densities = []
    for _ in range(3):
        search = lottery(rounds=1, epochs_per_round=1, fraction=0.5)
        networks.fit(model, search)
        densities += search.results.density.tolist()
        model.fit(X, Y, verbose=0)  # Without the callback the masks hold all the same.
        assert networks.strays(model) == 0
    assert densities == [1.0, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_a_later_initial_epoch_is_a_search_from_there(in_order):
    def fit(model, search):
        model.fit(X, Y, batch_size=BATCH, initial_epoch=5, epochs=5 + search.epochs,
                  shuffle=False, verbose=0, callbacks=[search])
    model, _ = searched(fit)
    assert_same_bits(numbers(model), in_order[0])


def test_data_that_runs_out_ends_the_search_with_a_warning():
    def fit(model, search):
        batches = list(fits.batches(epochs=3))
        model.fit(iter(batches), steps_per_epoch=STEPS, epochs=search.epochs, verbose=0,
                  callbacks=[search])
    with pytest.warns(UserWarning, match="fit ended before the search did: at level 1 of 2"):
        _, search = searched(fit)
    assert search.ticket.level == 1


def test_rounds_of_steps_on_data_of_unknown_length():
    def fit(model, search):
        data = fits.dataset().filter(lambda *_: True)
        model.fit(data, epochs=search.epochs_for(STEPS), verbose=0, callbacks=[search])
    _, search = searched(fit, {"epochs_per_round": None, "steps_per_round": 3})
    assert search.results.steps.tolist() == [3, 3, 3]


@pytest.mark.parametrize("options", [{"epochs_per_round": None, "steps_per_round": 3},
                                     {"rewind_step": 1}])
def test_steps_an_execution_that_keras_chooses_are_refused_where_a_step_counts(options):
    with pytest.raises(LotteryError, match="steps_per_execution='auto'"):
        searched(networks.fit, options, steps_per_execution="auto")
