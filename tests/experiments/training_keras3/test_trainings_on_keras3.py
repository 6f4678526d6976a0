"""Trainings on Keras 3, on the backend that Keras runs on; together on JAX."""

import dataclasses

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.networks import NETWORKS
from lth_keras.experiments.training.spec import intervals, TrainingSpec
from lth_keras.experiments.training_keras3 import engine
from lth_keras.experiments.training_keras3.evaluator import Evaluator
from lth_keras.experiments.training_keras3.models import KERAS
from lth_keras.experiments.training_keras3.network_states import ModelLayout
from lth_keras.experiments.training_keras3.trainer import PlainNetworkTrainer

BACKEND = keras.backend.backend()
TOGETHER = 3 if BACKEND == "jax" else 1
on_jax = pytest.mark.skipif(BACKEND != "jax", reason="trains several networks at once on JAX")


def tiny(input_shape, classes, dropout=0.0, *, keras):
    layers = keras.layers
    return keras.Sequential([
        layers.Input(input_shape), layers.Dense(8, "relu", name="a"),
        layers.BatchNormalization(name="norm"), *([layers.Dropout(dropout)] if dropout else []),
        layers.Dense(classes, name="b", dtype="float32")])


def tiny_convolutional(input_shape, classes, *, keras):
    layers = keras.layers
    return keras.Sequential([
        layers.Input((*input_shape, 1)[:3]), layers.Conv2D(3, 3, name="a"),
        layers.GlobalAveragePooling2D(), layers.Dense(classes, name="b")])


@pytest.fixture(scope="module", autouse=True)
def known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "tiny", tiny)
        patch.setitem(NETWORKS, "tiny_convolutional", tiny_convolutional)
        yield


def blobs(shape=(6,), examples=50):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, *shape))

    def draw(size):
        y = rng.integers(0, 3, size).astype(np.int32)
        return (centres[y] + rng.normal(size=(size, *shape))).astype(np.float32), y
    return Data(*draw(examples), *draw(20), 3)


DATA = blobs()


def config(**settings):
    return Config(**{"preset": "test", "network": "tiny", "dataset": "blobs", "steps": 12,
                     "rounds": 2, "validation_every": 4, "validation_size": 10, "batch_size": 8,
                     "engine": "keras", "keras_backend": BACKEND, "learning_rate": 0.05,
                     **settings})


_TRAINERS = {}


def trainer(together=1, data=DATA, **settings):
    key = together, id(data), tuple(settings.items())
    if key not in _TRAINERS:
        _TRAINERS[key] = PlainNetworkTrainer(config(**settings), data, 100, together)
    return _TRAINERS[key]


def spec(one, seed=0, density=0.5, **settings):
    rng = np.random.default_rng(seed)
    weights = one.initial_weights(rng)
    masks = {name: (rng.random(shape) < density).astype(np.uint8)
             for name, shape in one.shapes.items()}
    split = rng.permutation(50)
    return TrainingSpec(**{
        "weights": weights, "masks": masks, "train": split[10:], "validation": split[:10],
        "order": np.random.default_rng(seed), "steps": 12, "validation_every": 4,
        "batch_size": 8, "seed": seed, **settings})


def anew(each, **settings):
    """The same training, whose order of examples begins again."""
    return dataclasses.replace(each, order=np.random.default_rng(each.seed), **settings)


def trained(one, *specs):
    return one.train([anew(each) for each in specs], lambda place, steps: None)


def equal(one, other):
    for name, value in one.weights.items():
        assert_array_equal(value, other.weights[name])
    assert one.curve.equals(other.curve)


def close(one, other):
    for name, value in one.weights.items():
        assert_allclose(value, other.weights[name], rtol=1e-4, atol=1e-5)
    assert_allclose(one.curve.to_numpy(), other.curve.to_numpy(), rtol=1e-4, atol=1e-5)


def test_a_training_is_keras_own_steps_with_zeros_where_weights_are_pruned():
    one = trainer()
    each = spec(one)
    found, = trained(one, each)
    model = KERAS.build(config(), DATA.input_shape, 3)
    KERAS.compile(model, keras.optimizers.Adam(0.05))
    layout = ModelLayout(model)
    state = layout.state(each.weights, each.masks, 0)
    for variables, values in zip(layout.variables, state, strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    for interval in intervals(anew(each)):
        for rows in interval.indices[:interval.count]:
            model.train_on_batch(DATA.x_train[rows], DATA.y_train[rows])
    expected = layout.weights(*([keras.ops.convert_to_numpy(variable) for variable in part]
                                for part in layout.variables[:2]))
    for name, value in found.weights.items():
        assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)
        assert name not in each.masks or not value[each.masks[name] == 0].any()


def test_a_curve_has_keras_columns_in_their_order_and_a_row_for_each_validation():
    found, = trained(trainer(), spec(trainer()))
    assert [*found.curve] == ["step", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert found.curve.step.tolist() == [4, 8, 12]
    least = found.curve.val_loss.idxmin()
    assert found.result["early_stop_step"] == found.curve.step[least]
    assert found.result["val_loss_min"] == found.curve.val_loss[least]


def test_the_test_set_is_evaluated_at_the_early_stop_with_the_weights_of_that_step():
    one = trainer(learning_rate=0.5)
    for seed in range(9):  # Until one does not get better to its end.
        each = spec(one, seed)
        found, = trained(one, each)
        if found.result["early_stop_step"] < 12:
            break
    stopped, = trained(one, anew(each, steps=found.result["early_stop_step"]))
    assert found.result["test_loss_early_stop"] == pytest.approx(
        stopped.result["test_loss_final"], rel=1e-5)
    assert found.result["test_loss_early_stop"] != found.result["test_loss_final"]
    evaluated = Evaluator(config(), DATA).evaluate(stopped.weights)
    assert evaluated == {
        "accuracy": pytest.approx(found.result["test_accuracy_early_stop"]),
        "loss": pytest.approx(found.result["test_loss_early_stop"], rel=1e-5)}
    error = Evaluator(config(), DATA).error(stopped.weights)
    assert error == pytest.approx(1 - found.result["test_accuracy_early_stop"])


def test_a_training_goes_on_from_step_k_as_the_dense_one_did():
    settings = {"optimizer": "sgd", "learning_rate_drops": (8,), "warmup_steps": 2,
                "network": "tiny", "learning_rate": 0.1}
    one = trainer(**settings)
    each = spec(one, density=1.1, rewind_step=4)
    whole, = trained(one, each)
    part, = trained(one, anew(each, weights=whole.rewound, first=4, rate_first=4, rewind_step=0))
    for name, value in whole.weights.items():
        assert_allclose(part.weights[name], value, rtol=1e-5, atol=1e-6)
    assert part.curve.step.tolist() == [8, 12]
    constant, = trained(one, anew(each, weights=whole.rewound, first=4, rate_first=12,
                                  rate_stretch=1e30, rewind_step=0))
    assert np.abs(constant.weights["a/kernel"] - whole.weights["a/kernel"]).max() > 1e-4


def test_weight_decay_enters_the_momentum_as_with_tf_keras():
    one = trainer(optimizer="sgd", momentum=0.9, weight_decay=0.1, learning_rate=0.1)
    each = spec(one, steps=4)
    found, = trained(one, each)
    plain, = trained(trainer(optimizer="sgd", momentum=0.9, learning_rate=0.1), each)
    assert np.abs(found.weights["a/kernel"]).sum() < np.abs(plain.weights["a/kernel"]).sum()
    assert not found.weights["a/kernel"][each.masks["a/kernel"] == 0].any()


def test_a_training_that_diverges_says_so_and_ends():
    one = trainer(optimizer="sgd", learning_rate=1e30, network="tiny")
    found, = trained(one, spec(one))
    assert found.diverged and "test_accuracy_final" not in found.result
    assert len(found.curve) < 3 or found.result["diverged_at_step"] == 12


def test_theta_k_and_measured_steps_are_those_of_shorter_trainings():
    one = trainer(TOGETHER)
    specs = [spec(one, seed, rewind_step=8, measured_steps=(4, 8))
             for seed in range(TOGETHER)]
    shorter = [anew(each, steps=8, rewind_step=0, measured_steps=()) for each in specs]
    for whole, part in zip(trained(one, *specs), trained(one, *shorter), strict=True):
        for name, value in part.weights.items():
            assert_array_equal(whole.rewound[name], value)
        assert whole.result["test_accuracy_step_8"] == part.result["test_accuracy_final"]
        assert "test_accuracy_step_4" in whole.result and part.rewound is None


@pytest.mark.thorough
def test_what_is_drawn_depends_on_the_seed_alone():
    images = blobs((12, 12))
    for settings, data in (({"dropout": 0.5}, DATA),
                           ({"augmentation": "flip_crop", "network": "tiny_convolutional"},
                            images)):
        one = trainer(data=data, **settings)
        each = spec(one)
        first, again = trained(one, each)[0], trained(one, each)[0]
        equal(first, again)
        other, = one.train([anew(each, seed=each.seed + 1)], lambda *_: None)
        if settings.get("dropout"):
            assert not np.array_equal(first.weights["b/kernel"], other.weights["b/kernel"])


def test_a_network_with_convolutions_is_trained_and_stays_sparse():
    images = blobs((12, 12))
    one = trainer(data=images, network="tiny_convolutional")
    each = spec(one)
    found, = trained(one, each)
    assert all(not found.weights[name][mask == 0].any() for name, mask in each.masks.items())
    assert np.abs(found.weights["a/kernel"] - each.weights["a/kernel"]).max() > 0


@on_jax
def test_networks_that_are_trained_together_are_those_trained_alone():
    together, alone = trainer(TOGETHER), trainer()
    specs = [spec(alone, seed) for seed in range(TOGETHER)]
    for one, each in zip(trained(together, *specs), specs, strict=True):
        close(one, trained(alone, each)[0])
        assert all(not one.weights[name][mask == 0].any() for name, mask in each.masks.items())


@on_jax
def test_bits_do_not_depend_on_who_else_is_trained_or_on_the_place():
    one = trainer(TOGETHER)
    a, b, c = (spec(one, seed) for seed in range(3))
    whole, turned, single = trained(one, a, b, c), trained(one, c, a, b), trained(one, b)
    equal(whole[0], turned[1])
    equal(whole[2], turned[0])
    equal(whole[1], single[0])


@on_jax
def test_trainings_of_other_lengths_and_more_than_fit_get_their_own_results():
    one = trainer(TOGETHER)
    specs = [spec(one, seed) for seed in range(5)]
    specs[1] = anew(specs[1], steps=8)
    seen = {}
    found = one.train([anew(each) for each in specs], lambda place, steps: seen.update(
        {place: seen.get(place, 0) + steps}))
    assert seen == {0: 12, 1: 8, 2: 12, 3: 12, 4: 12}
    for each, result in zip(specs, found, strict=True):
        equal(result, trained(one, each)[0])


@on_jax
def test_one_that_diverges_leaves_the_others_as_they_are():
    one = trainer(TOGETHER)
    a, b = spec(one, 0), spec(one, 1)
    broken = anew(b, weights={**b.weights, "a/kernel": np.full_like(b.weights["a/kernel"], np.inf)},
                  masks={name: np.ones_like(mask) for name, mask in b.masks.items()})
    good, bad = trained(one, a, broken)
    assert bad.diverged and not good.diverged
    equal(good, trained(one, a)[0])


@on_jax
def test_one_compilation_serves_all_trainings(caplog):
    import jax
    one = trainer(TOGETHER)
    trained(one, spec(one, 7))
    with jax.log_compiles(), caplog.at_level("WARNING"):
        trained(one, spec(one, 8, density=0.2), spec(one, 9, steps=8), spec(one, 1, steps=10))
    assert not [record for record in caplog.messages if "jit(several)" in record]


@on_jax
def test_steps_one_by_one_are_those_of_the_loop():
    images = blobs((12, 12))
    one = PlainNetworkTrainer(config(network="tiny_convolutional"), images, 100, 1)
    each = spec(one)
    assert not one.program._looped  # On a CPU.
    stepped, = trained(one, each)
    one.program._looped = True
    close(stepped, trained(one, each)[0])


@on_jax
def test_networks_one_after_another_in_one_program_are_those_side_by_side():
    from lth_keras.experiments.training_keras3.jax_program import JaxProgram
    side_by_side = trainer(TOGETHER)
    in_turn = PlainNetworkTrainer(config(), DATA, 100, TOGETHER)
    in_turn.program = JaxProgram(in_turn.model, in_turn._layout, DATA, together=TOGETHER,
                                  mapped="map")
    specs = [spec(in_turn, seed) for seed in range(TOGETHER)]
    for one, other in zip(trained(side_by_side, *specs), trained(in_turn, *specs), strict=True):
        close(one, other)


@on_jax
@pytest.mark.parametrize("quicker", ["vmap", "map"])
def test_several_with_convolutions_are_trained_in_the_quicker_way(monkeypatch, quicker):
    from lth_keras.experiments.training_keras3 import jax_devices
    seconds, timed = jax_devices._seconds, []

    def taken(program, *others):
        timed.append(seconds(program, *others))
        return program.mapped != quicker
    monkeypatch.setattr(jax_devices, "_seconds", taken)
    monkeypatch.setattr(jax_devices.jax, "default_backend", lambda: "gpu")
    images, settings = blobs((12, 12)), {"network": "tiny_convolutional"}
    one = PlainNetworkTrainer(config(**settings), images, 100, 2)
    assert one.program.mapped == quicker and len(timed) == 2 and min(timed) > 0
    alone = trainer(data=images, **settings)
    specs = [spec(alone, seed) for seed in range(2)]
    for found, each in zip(trained(one, *specs), specs, strict=True):
        close(found, trained(alone, each)[0])


@on_jax
def test_as_many_are_trained_as_a_device_has_memory_for(monkeypatch):
    from lth_keras.experiments.training_keras3 import jax_devices
    one = trainer(TOGETHER)
    need = one.program.bytes(4, 8, 10)

    class Device:
        def memory_stats(self):
            return {"bytes_limit": need * 2}
    monkeypatch.setattr(jax_devices.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax_devices.jax, "devices", lambda: [Device()])
    made = []

    class Program:
        has_convolutions = False

        def __init__(self, *_, together, **__):
            self.together = together
            made.append(together)

        def bytes(self, *_):
            return need * self.together // TOGETHER
    monkeypatch.setattr(jax_devices, "JaxProgram", Program)
    program = jax_devices.program(one.model, one._layout, DATA, config(replicates=20))
    assert program.together == 5 and made == [20, 10, 5, 5]
    assert jax_devices.program(one.model, one._layout, DATA, config(), 7).together == 7


def test_rounds_go_from_ticket_to_ticket():
    one = engine.round_runner(config(), DATA, together=TOGETHER)
    first = one.train(Training(0, 0), StartingPoint())
    assert first.drawn.masks["a/kernel"].all() and first.following.level == 1
    group = [(Training(0, 1, *branch), StartingPoint(first.following))
             for branch in (("ticket",), ("reinit",))]
    ticket, control = one.train_together(group)
    for name, mask in first.following.masks.items():
        assert not ticket.trained.weights[name][mask == 0].any()
        assert_array_equal(first.following.weights[name], first.drawn.weights[name])
    assert ticket.following.density < first.following.density and control.following is None
    assert 0 < ticket.result["density_a/kernel"] < 1


def test_a_criterion_can_have_the_gradient_of_the_loss():
    one = engine.round_runner(config(criterion="taylor"), DATA)
    assert one.train(Training(0, 0), StartingPoint()).following.density < 0.85


@pytest.mark.parametrize(("settings", "arguments", "message"), [
    ({}, {"distribution": "mirrored"}, "Received: mirrored. Leave it out"),
    ({"augmentation": "flip_crop"}, {}, r"examples of shape \(6,\)"),
    ({"validation_size": 48}, {}, "validation_size=48")])
def test_what_cannot_be_is_refused(settings, arguments, message):
    with pytest.raises(LotteryError, match=message):
        engine.round_runner(config(**settings), DATA, **arguments)


@pytest.mark.skipif(BACKEND == "jax", reason="which trains several")
def test_several_at_once_are_refused_elsewhere():
    with pytest.raises(LotteryError, match=f"Received: 2 on {BACKEND}. Use --jobs"):
        engine.round_runner(config(), DATA, together=2)


def test_another_backend_than_the_process_has_is_refused():
    other = next(name for name in ("jax", "torch") if name != BACKEND)
    with pytest.raises(LotteryError, match=f"where Keras runs on {BACKEND}. Set"):
        engine.round_runner(config(keras_backend=other), DATA)


@on_jax
def test_data_that_do_not_fit_are_refused():
    with pytest.raises(LotteryError, match="resident_mib=0. Raise"):
        engine.round_runner(config(), DATA, resident_mib=0)


def test_a_network_of_tf_keras_is_refused():
    tf_keras = pytest.importorskip("tf_keras")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "of_the_other", lambda shape, classes: tf_keras.Sequential(
            [tf_keras.layers.Input(shape), tf_keras.layers.Dense(classes)]))
        with pytest.raises(LotteryError, match="must be a model of keras, the Keras of the run"):
            KERAS.build(config(network="of_the_other"), (4,), 3)


def test_a_dense_network_is_scored_at_the_weights_that_are_given():
    one = trainer()
    first, other = (one.initial_weights(np.random.default_rng(seed)) for seed in (0, 1))
    for weights in (first, other):
        found = one.scored_model(weights)
        assert [*found.shapes] == [*one.shapes] == ["a/kernel", "b/kernel"]
        for name, value in found.weights().items():
            assert_array_equal(value, weights[name])
        gradient = found.gradient(found.batches((DATA.x_train[:9], DATA.y_train[:9])))
        expected = one.loss_gradient(weights, {name: np.ones(shape, np.uint8) for name, shape
                                               in one.shapes.items()}, np.arange(9))
        for name, value in gradient.items():
            assert np.abs(value).max() > 0
            assert_allclose(value, expected[name], rtol=1e-5, atol=1e-7)


def test_patience_ends_a_training_and_leaves_those_beside_it_alone():
    alone, beside = trainer(), trainer(TOGETHER)
    specs = [spec(alone, seed, steps=80, patience=patience)
             for seed, patience in ((0, 4), (1, 0), (2, 8))[:TOGETHER]]
    each = [trained(alone, one)[0] for one in specs]
    whole, = trained(alone, dataclasses.replace(specs[0], patience=0))
    ended = each[0].result["ended_at_step"]
    assert ended and ended < 80 and "test_accuracy_final" not in each[0].result
    assert each[0].curve.equals(whole.curve[whole.curve.step <= ended])
    assert ended - each[0].result["early_stop_step"] == 4
    for found, one in zip(trained(beside, *specs), each, strict=True):
        assert len(found.curve) == len(one.curve)
        assert_allclose(found.curve.to_numpy(), one.curve.to_numpy(), rtol=1e-3, atol=1e-4)
        assert {*found.result} == {*one.result}
        for name in ("early_stop_step", "ended_at_step"):
            assert found.result.get(name) == one.result.get(name)
        assert found.result["test_loss_early_stop"] == pytest.approx(
            one.result["test_loss_early_stop"], rel=1e-2)
