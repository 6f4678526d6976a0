"""What is masked computes what the smaller network does, on every kind of model."""

import inspect

import filters
import keras as keras3
import numpy as np
import pytest
import tf_keras

import lth_keras as lth
from lth_keras.errors import TicketError

LIBRARIES = {"tf_keras": tf_keras, "keras3": keras3}


def check(model, criterion):
    found = filters.network(filters.disturb(model))
    masks = filters.pruned(found, criterion)
    x = filters.batch(model)
    masked = found.model.predict(x, verbose=0)
    small = filters.compacted(found)
    np.testing.assert_allclose(small.model.predict(x, verbose=0), masked, rtol=1e-5,
                               atol=2e-6 * max(1, np.abs(masked).max()))
    # Nothing that is masked is left, and nothing else is gone.
    gone = sum(int(np.count_nonzero(mask == 0)) for mask in masks.values())
    before, after = (sum(int(np.prod(each.shape)) for each in one.trainable_variables)
                     for one in (model, small.model))
    assert gone and after == before - gone
    return small


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "criterion"), [
    ("residual", "l1"), ("sequences", "random"),
    *(pytest.param(name, "l1", marks=pytest.mark.thorough) for name in filters.SMALL
      if name not in ("residual", "sequences"))])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_smaller_network_computes_the_same(library, name, criterion):
    keras = LIBRARIES[library]
    keras.utils.set_random_seed(1)
    check(filters.SMALL[name](keras), criterion)


def test_heads_with_a_gate_lose_it_too():
    layers = keras3.layers
    if "use_gate" not in inspect.signature(layers.MultiHeadAttention).parameters:
        pytest.skip("attention of this Keras has no gate")
    keras3.utils.set_random_seed(1)
    x = inputs = layers.Input((6, 8))
    x = layers.Add()([x, layers.MultiHeadAttention(4, 6, use_gate=True)(x, x)])
    check(keras3.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))), "l1")


@pytest.mark.long
@pytest.mark.parametrize("criterion", ["l1", "random"])
@pytest.mark.parametrize("name", filters.APPLICATIONS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_an_application_computes_the_same_with_half_of_its_filters(library, name, criterion):
    keras = LIBRARIES[library]
    keras.utils.set_random_seed(1)
    check(filters.application(keras, name), criterion)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["vgg16", "resnet56"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_papers_networks_compute_the_same(library, name):
    from lth_keras.experiments.training.networks import get
    keras = LIBRARIES[library]
    keras.utils.set_random_seed(1)
    check(get(name)((32, 32, 3), 10, keras=keras), "l1")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_ticket_of_the_smaller_network_has_what_is_left_of_the_whole_ones(library):
    keras = LIBRARIES[library]
    keras.utils.set_random_seed(1)
    model = filters.nested(keras)
    found = filters.network(filters.disturb(model))
    theta = found.weights()
    masks = filters.pruned(found)
    small = filters.compacted(found)
    ticket = small.ticket(lth.Ticket(theta, masks, level=1))
    assert all(mask.all() for mask in ticket.masks.values())
    # From theta under its masks, the smaller network computes what the whole one does.
    applied = ticket.apply(small.model)
    found.assign(theta, masks)
    x = filters.batch(model)
    np.testing.assert_allclose(applied.predict(x, verbose=0), found.model.predict(x, verbose=0),
                               rtol=1e-5, atol=1e-6)
    with pytest.raises(TicketError, match="'other', which that model has not"):
        small.ticket(lth.Ticket({"other": np.ones(1)}, {"other": np.ones(1, np.uint8)}, level=0))
