"""One ticket for both: found with one Keras, it applies to the same network of the other."""

import keras
import numpy as np
import pytest

import lth_keras as lth
from lth_keras.errors import TicketError
from lth_keras.keras3.weights import named_weights, prunable_weights

tf_keras = pytest.importorskip("tf_keras")


def network(keras):
    """Every kind of layer whose weights have names of their own."""
    layers = keras.layers
    inputs = layers.Input((8, 8, 2))
    hidden = layers.SeparableConv2D(3, 2)(layers.DepthwiseConv2D(2)(layers.Conv2D(4, 3)(inputs)))
    hidden = layers.Reshape((-1, 3))(layers.BatchNormalization()(hidden))
    normal = layers.LayerNormalization()(hidden)
    hidden = layers.Add()([layers.MultiHeadAttention(2, 3)(normal, normal), hidden])
    hidden = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(hidden)
    hidden = layers.PReLU()(layers.Dense(6, "relu")(layers.GRU(3)(hidden)))
    model = keras.Model(inputs, layers.Dense(3)(hidden))
    model.compile("adam", "mse")
    return model


X, Y = np.random.default_rng(0).random((2, 16, 8, 8, 2), np.float32)
Y = Y[:, 0, :3, 0]


def found(model):
    search = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, fraction=0.5, verbose=0)
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[search])
    return search.ticket


@pytest.fixture(scope="module")
def tickets():
    wrapped = lth.prune_low_magnitude(network(tf_keras))
    wrapped.compile("adam", "mse")
    return {"tf_keras": found(wrapped), "keras": found(network(keras))}


def test_both_name_prune_and_shape_the_same_weights_and_have_the_same_output_layer():
    from lth_keras.keras2.masking import weight_names
    theirs, ours = lth.prune_low_magnitude(network(tf_keras)), network(keras)
    one, other = ({name: tuple(value.shape) for name, value in named.items()}
                  for named in (weight_names.named_weights(theirs), named_weights(ours)))
    assert one == other
    prunable = {name: item.prunable for name, item in weight_names.masked(theirs).items()}
    assert prunable_weights(ours) == prunable
    assert [name for name, weight in prunable.items() if weight.output] == ["dense_1/kernel"]


@pytest.mark.thorough
def test_tickets_of_both_hold_the_same_weights_and_masks(tickets):
    first, second = tickets.values()
    assert {name: value.shape for name, value in first.weights.items()} \
        == {name: value.shape for name, value in second.weights.items()}
    assert list(first.masks) == list(second.masks)


@pytest.mark.thorough
@pytest.mark.parametrize("source", ["tf_keras", "keras"])
def test_a_ticket_applies_to_the_other_and_computes_the_same(source, tickets):
    ticket = tickets[source]
    ours = ticket.apply(network(keras))
    theirs = lth.strip_pruning(ticket.apply(network(tf_keras)))
    values = {name: keras.ops.convert_to_numpy(variable.value)
              for name, variable in named_weights(ours).items()}
    for name, value in ticket.weights.items():
        np.testing.assert_array_equal(values[name], value * ticket.masks.get(name, 1))
    np.testing.assert_allclose(ours.predict(X, verbose=0), theirs.predict(X, verbose=0),
                               rtol=1e-5, atol=1e-6)


@pytest.mark.thorough
def test_a_model_with_a_ticket_trains_on_sparse(tickets):
    model = tickets["tf_keras"].apply(network(keras))
    model.fit(X, Y, verbose=0, epochs=2)
    for name, mask in tickets["tf_keras"].masks.items():
        assert not keras.ops.convert_to_numpy(named_weights(model)[name].value)[mask == 0].any()


@pytest.mark.thorough
def test_a_ticket_of_another_network_changes_nothing(tickets):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    before = model.get_weights()
    with pytest.raises(TicketError, match="must have the ticket's names and shapes"):
        tickets["keras"].apply(model)
    assert all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.thorough
@pytest.mark.parametrize("optimizer", ["adam", keras.optimizers.SGD(0.1, momentum=0.9), "adagrad",
                                       keras.optimizers.Adam(use_ema=True)],
                         ids=["adam", "momentum", "adagrad", "averages"])
@pytest.mark.parametrize("way", ["ticket", "keep_sparse"])
def test_what_an_optimizer_knows_of_pruned_weights_moves_them_no_more(optimizer, way):
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, name="a"),
                              keras.layers.Dense(2, name="b")])
    optimizer = keras.optimizers.get(optimizer)
    model.compile(type(optimizer).from_config(optimizer.get_config()), "mse")
    x, y = rng.normal(size=(32, 4)), rng.normal(size=(32, 2))
    model.fit(x, y, verbose=0, epochs=2)
    kept = {"a/kernel": np.eye(4, 6, dtype=np.uint8), "b/kernel": np.eye(6, 2, dtype=np.uint8)}
    if way == "ticket":
        weights = {name: np.asarray(keras.ops.convert_to_numpy(variable.value))
                   for name, variable in named_weights(model).items()}
        lth.Ticket(weights, kept, 1).apply(model)
    else:
        for name, mask in kept.items():
            named_weights(model)[name].assign(
                keras.ops.convert_to_numpy(named_weights(model)[name].value) * mask)
        lth.keep_sparse(model)
    for _ in range(3):  # The averages replace the weights at the end of a fit.
        model.fit(x, y, verbose=0)
        for name, mask in kept.items():
            value = keras.ops.convert_to_numpy(named_weights(model)[name].value)
            assert not value[mask == 0].any() and value[mask == 1].all()
