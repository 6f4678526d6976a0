import subprocess
import sys
import types

import networks
import numpy as np
import pytest
import tf_keras as keras
from networks import ARCHITECTURES, compiled, fit, lottery, State, X, Y

import lth_keras as lth
from lth_keras.errors import TicketError
from lth_keras.files import engines
from lth_keras.files.ticket import Ticket
from lth_keras.keras2.masking import weight_names

layers = keras.layers


def setup_function():
    keras.utils.set_random_seed(0)


def ticket_for(model, density=0.5, level=2, **options):
    """A ticket with weights and masks of its own, for the architecture of a wrapped model."""
    rng = np.random.default_rng(7)
    values = {name: rng.normal(size=variable.shape).astype(np.float32)
              for name, variable in weight_names.named_weights(model).items()}
    masks = {name: (rng.random(item.weight.shape) < density).astype(np.uint8)
             for name, item in weight_names.masked(model).items()}
    return Ticket(values, masks, level, **options)


def small():
    return ticket_for(lth.prune_low_magnitude(networks.mlp()))


def assert_holds(model, ticket):
    named, masked = weight_names.named_weights(model), weight_names.masked(model)
    assert set(masked) == set(ticket.masks)
    for name, value in ticket.weights.items():
        mask = ticket.masks.get(name, np.ones_like(value))
        np.testing.assert_array_equal(named[name], np.where(mask, value, 0))
    for name, mask in ticket.masks.items():
        np.testing.assert_array_equal(masked[name].mask, mask)


def test_a_ticket_comes_back_from_its_file(tmp_path):
    ticket = ticket_for(lth.prune_low_magnitude(networks.normalised()),
                        provenance={"dataset": "blobs", "settings": {"fraction": 0.2}})
    ticket.save(tmp_path / "a.ticket")
    loaded = Ticket.load(tmp_path / "a.ticket")
    assert (loaded.level, loaded.provenance) == (ticket.level, ticket.provenance)
    assert loaded.density == ticket.density
    for ours, theirs in ((ticket.weights, loaded.weights), (ticket.masks, loaded.masks)):
        assert set(ours) == set(theirs)
        for name, value in ours.items():
            assert theirs[name].dtype == value.dtype
            np.testing.assert_array_equal(theirs[name], value)
    assert loaded == ticket


@pytest.mark.parametrize("change", [
    {"level": 3}, {"provenance": {"seed": 1}}, {"masks": {"w": np.zeros((2, 2), np.uint8)}},
    {"weights": {"w": np.zeros((2, 2))}}, {"weights": {"w": np.ones((2, 2), np.float32)}}])
def test_tickets_are_equal_by_all_that_they_hold(change):
    parts = {"weights": {"w": np.ones((2, 2))}, "masks": {"w": np.ones((2, 2), np.uint8)},
             "level": 2}
    assert Ticket(**parts) == Ticket(**parts)
    assert Ticket(**{**parts, **change}) != Ticket(**parts)


@pytest.mark.parametrize(("name", "wrap"), [
    *((name, False) for name in ARCHITECTURES
      if name not in ("recurrent", "translation", "frozen")),
    ("mlp", True), ("nested", True), ("shared_with_nested", True)])
def test_a_ticket_applies_to_a_model_built_later_wrapped_or_not(name, wrap):
    build = ARCHITECTURES[name][0]
    ticket = ticket_for(networks.untouched(name)[1])
    fresh = lth.prune_low_magnitude(build()) if wrap else build()
    applied = ticket.apply(fresh)
    assert (applied is fresh) == wrap
    assert_holds(applied, ticket)


def test_a_ticket_applies_to_a_model_that_a_user_has_named_and_numbered_otherwise():
    for _ in range(3):
        layers.Dense(1)  # Counts in Keras' own numbering.
    ticket = small()
    assert_holds(ticket.apply(networks.mlp()), ticket)


def test_what_the_ticket_prunes_is_pruned_whatever_the_default_is():
    wrapped = lth.prune_low_magnitude(networks.frozen(), include="still")
    ticket = ticket_for(wrapped)
    applied = ticket.apply(networks.frozen())
    assert list(weight_names.masked(applied)) == ["still/kernel", "dense/kernel"]
    assert_holds(applied, ticket)
    dense_start = lth.prune_low_magnitude(networks.mlp(), exclude=lambda layer: layer.units == 8)
    assert_holds(ticket_for(dense_start).apply(networks.mlp()), ticket_for(dense_start))


def test_applying_twice_leaves_the_second_ticket():
    model = lth.prune_low_magnitude(networks.mlp())
    first, second = small(), ticket_for(model, density=0.8)
    first.apply(model)
    second.apply(model)
    assert_holds(model, second)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_after_apply_keeps_density_and_zeros(optimizer):
    ticket = small()
    model = compiled(ticket.apply(networks.mlp()), optimizer)
    spy = networks.Spy()
    fit(model, spy, epochs=2)
    assert {state.strays for state in spy.after} == {0}
    kept = networks.masks(model)
    assert sum(mask.sum() for mask in kept) == sum(mask.sum() for mask in ticket.masks.values())
    assert any((weight_names.named_weights(model)[name].numpy() != np.where(mask,
                                                                            ticket.weights[name],
                                                                       0)).any()
               for name, mask in ticket.masks.items())


def other_width():
    return networks.mlp((7,))


def other_layer():
    return keras.Sequential([layers.Input((6,)), layers.Dense(8, name="other"), layers.Dense(2)])


def fewer():
    return keras.Sequential([layers.Input((6,)), layers.Dense(8)])


@pytest.mark.parametrize(("build", "parts"), [
    (other_width, ["'dense/kernel': ticket (6, 8), model (6, 7)"]),
    (other_layer, ["'dense/kernel': ticket (6, 8), model (8, 2)",
                   "'other/kernel': ticket has none, model (6, 8)",
                   "'dense_1/kernel': ticket (8, 2), model has none"]),
    (fewer, ["'dense_1/kernel': ticket (8, 2), model has none"]),
])
@pytest.mark.parametrize("wrap", [False, True])
def test_weights_that_differ_are_named_and_the_model_stays_as_it_was(build, parts, wrap):
    model = lth.prune_low_magnitude(build()) if wrap else build()
    before = model.get_weights()
    with pytest.raises(TicketError) as error:
        small().apply(model)
    for part in parts:
        assert part in str(error.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_another_prunable_set_is_named_and_the_model_stays_as_it_was():
    model = lth.prune_low_magnitude(networks.mlp(), exclude=lambda layer: layer.units == 8)
    before = model.get_weights()
    with pytest.raises(TicketError, match=r"in the ticket only \['dense/kernel'\], in the model "
                                          r"only \[\]"):
        small().apply(model)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_subclassed_model_that_is_not_wrapped_is_wrapped_in_place():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.dense_1 = layers.Dense(8), layers.Dense(2)

        def call(self, inputs):
            return self.dense_1(self.dense(inputs))

    model, ticket = Subclassed(), small()
    model(X)
    assert ticket.apply(model) is model
    assert_holds(model, ticket)


def test_the_summary_has_a_line_for_each_weight():
    masks = {"dense/kernel": np.eye(4, 2, dtype=np.uint8)}
    ticket = Ticket({"dense/kernel": np.ones((4, 2)), "dense/bias": np.ones(2)}, masks, level=3)
    assert ticket.density == 0.25
    assert ticket.summary().splitlines() == [
        "ticket of level 3: 2 of 8 prunable weights kept, density 25.00%",
        "weight        shape      kept   density",
        "dense/kernel  (4, 2)        2    25.00%",
        "dense/bias    (2,)          2 not pruned"]


@pytest.mark.parametrize(("parts", "message"), [
    ({"masks": {}}, "at least one mask"),
    ({"level": -1}, "level"),
    ({"masks": {"other": np.ones((2, 2))}}, "'other'"),
    ({"masks": {"w": np.ones((2, 3))}}, r"mask \(2, 3\), weight \(2, 2\)"),
    ({"masks": {"w": np.full((2, 2), 2)}}, "only 0 and 1"),
    ({"weights": {"w": np.full((2, 2), np.nan)}}, "finite"),
])
def test_parts_that_do_not_fit_make_no_ticket(parts, message):
    whole = {"weights": {"w": np.ones((2, 2))}, "masks": {"w": np.ones((2, 2))}, "level": 1}
    with pytest.raises(TicketError, match=message):
        Ticket(**{**whole, **parts})


def test_the_same_search_run_twice_writes_the_same_bytes(tmp_path):
    def run(name):
        keras.utils.set_random_seed(3)
        search = lottery(rewind_step=2, criterion="random", provenance={"dataset": "blobs"})
        fit(compiled(lth.prune_low_magnitude(networks.normalised())), search, validate=True)
        search.ticket.save(tmp_path / name)
        return (tmp_path / name).read_bytes()
    assert run("first") == run("second")


def test_a_searched_ticket_trains_elsewhere_as_it_did_in_the_search(tmp_path):
    search = lottery(epochs_per_round=1)
    trained = compiled()
    fit(trained, search)
    search.ticket.save(tmp_path / "winner.ticket")
    again = compiled(Ticket.load(tmp_path / "winner.ticket").apply(networks.mlp()))
    again.fit(X, Y, batch_size=networks.BATCH, shuffle=False, verbose=0)
    for one, other in zip(State.of(trained).weights, State.of(again).weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_a_model_that_is_not_built_is_refused_with_what_to_do():
    ticket = Ticket({"dense/kernel": np.ones((2, 2))}, {"dense/kernel": np.eye(2)}, 0)
    with pytest.raises(TicketError, match="Input"):
        ticket.apply(keras.Sequential([keras.layers.Dense(2)]))


@pytest.mark.parametrize("model", [object(), "model", np.ones(3)])
def test_what_is_no_model_of_a_known_engine_is_refused_with_what_to_do(model):
    with pytest.raises(TicketError, match=r"one of tf_keras, keras\. Received: an object of .* "
                                          r"arrays in ticket\.weights"):
        small().apply(model)


def test_an_engine_is_found_by_the_class_that_a_model_derives_from(monkeypatch):
    monkeypatch.setitem(engines.ENGINES, "torch", "of_torch")
    monkeypatch.setitem(sys.modules, "of_torch", types.SimpleNamespace(
        apply_ticket=lambda ticket, model: (ticket, model)))
    base = type("Module", (), {"__module__": "torch.nn.modules"})
    model = type("Mine", (base,), {})()
    ticket = small()
    assert ticket.apply(model) == (ticket, model)


def test_a_ticket_is_read_without_tensorflow(tmp_path):
    small().save(tmp_path / "a.ticket")
    program = ("import sys; sys.argv = ['lth']; import lth_keras as lth; "
               f"lth.Ticket.load({str(tmp_path / 'a.ticket')!r}).summary(); "
               "sys.exit('tensorflow' in sys.modules)")
    subprocess.run([sys.executable, "-c", program], check=True)
