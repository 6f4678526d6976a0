"""`lth.Supermask` against a slow reference, step by step, and what it leaves as it is."""

import importlib

import numpy as np
import pytest

import lth_keras as lth
from lth_keras.core.pruning import without_lowest
from lth_keras.errors import DivergedError, InvariantError, LotteryError
from lth_keras.sparse_training import draws, starts
from lth_keras.sparse_training.array_ops import NUMPY

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 24)
A, B = "a/kernel", "b/kernel"
SHAPES = {A: (4, 6), B: (6, 3)}
METHODS = {"edge_popup": {"kept": 0.5}, "biprop": {"method": "biprop", "kept": 0.5},
           "bernoulli": {"method": "bernoulli"},
           "constants": {"method": "bernoulli", "constants": True, "rescale": True}}


@pytest.fixture(params=["tf_keras", "keras"])
def keras(request):
    module = importlib.import_module(request.param)
    module.utils.set_random_seed(0)
    return module


def mlp(keras, **options):
    """A tiny network whose biases are not zero; the same weights in every Keras."""
    model = keras.Sequential([
        keras.layers.Input((4,)),
        keras.layers.Dense(6, name="a", **{"activation": "tanh", **options}),
        keras.layers.Dense(3, "softmax", name="b")])
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=np.shape(value)) for value in model.get_weights()])
    return model


def masked(keras, model=None, rate=0.5, options=(), **settings):
    model = mlp(keras) if model is None else model
    settings = {"method": "edge_popup", "seed": 3, **settings}
    optimizer = lth.Supermask(model, keras.optimizers.SGD(rate, **dict(options)), **settings)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model, optimizer


def fit(model, epochs=1, **options):
    return model.fit(X, Y, batch_size=8, shuffle=False, epochs=epochs, verbose=0,
                     **options).history["loss"]


class Reference:
    """The same in NumPy and float64, with a sort."""

    def __init__(self, weights, *, method="edge_popup", kept=None, constants=False, rescale=False,
                 seed=3, rate=0.5):
        self.theta = {name: value.astype(np.float64) for name, value in weights.items()}
        self.method, self.kept, self.rescale, self.rate = method, kept, rescale, rate
        self.held = {name: np.sign(self.theta[name]) * self.theta[name].std() if constants
                     else self.theta[name] for name in SHAPES}
        self.scores = {name: value * (method != "bernoulli")
                       for name, value in starts.scores(SHAPES, seed).items()}
        self.key = starts.key(seed)
        self.steps = 0
        self.mask()

    def mask(self):
        self.masks, self.now = {}, {}
        for place, (name, shape) in enumerate(SHAPES.items()):
            scores, held = self.scores[name], self.held[name]
            if self.method == "bernoulli":
                chance = draws.uniform(NUMPY, shape, self.key, np.int32([self.steps]), place)
                mask = chance < 1 / (1 + np.exp(-scores))
            else:
                mask = without_lowest({"": abs(scores)}, {"": np.ones(shape)},
                                      held.size - round(self.kept * held.size))[""] != 0
            self.masks[name] = mask
            if self.method == "biprop":
                held = np.sign(held) * abs(held)[mask].mean()
            self.now[name] = mask * held * self.scale(mask)

    def scale(self, mask):
        return mask.size / mask.sum() if self.rescale else 1.0

    def step(self, x, y):
        hidden = np.tanh(x @ self.now[A] + self.theta["a/bias"])
        logits = hidden @ self.now[B] + self.theta["b/bias"]
        error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        error[np.arange(len(y)), y] -= 1
        error /= len(y)
        gradients = {A: x.T @ ((error @ self.now[B].T) * (1 - hidden ** 2)), B: hidden.T @ error}
        for name, gradient in gradients.items():
            scores = self.scores[name]
            chance = 1 / (1 + np.exp(-scores))
            slope = chance * (1 - chance) * self.scale(self.masks[name]) \
                if self.method == "bernoulli" else np.sign(scores)
            self.scores[name] = scores - self.rate * gradient * self.held[name] * slope
        self.steps += 1
        self.mask()


@pytest.mark.parametrize(("settings", "jit"), [
    pytest.param(settings, jit, id=f"{name}-{jit}",
                 marks=() if (name, jit) == ("edge_popup", True) else pytest.mark.thorough)
    for name, settings in METHODS.items() for jit in (False, True)])
def test_every_step_is_the_references(keras, settings, jit):
    model, optimizer = masked(keras, **settings)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=jit)
    theta = optimizer.ticket().weights
    reference = Reference(theta, **{"method": "edge_popup", **settings})
    moved = 0
    for step in range(12):
        for name, kernel in optimizer.host.kernels.items():
            scores = optimizer.host.read(optimizer.state.scores[name])
            np.testing.assert_allclose(scores, reference.scores[name], rtol=2e-5, atol=2e-6)
            mask = optimizer.host.read(optimizer.state.masks[name])
            assert (mask == reference.masks[name]).all(), (step, name)
            np.testing.assert_allclose(optimizer.host.read(kernel), reference.now[name], rtol=2e-5)
        optimizer.check()
        before = dict(reference.masks)
        place = slice(8 * (step % 3), 8 * (step % 3) + 8)
        model.train_on_batch(X[place], Y[place])
        reference.step(X[place], Y[place])
        moved += sum(int((before[name] != reference.masks[name]).sum()) for name in SHAPES)
    assert moved > 5
    for name in SHAPES:
        assert (optimizer.ticket().weights[name] == theta[name]).all()


@pytest.mark.parametrize("kept", [0, 1, {A: 24, B: 5}])
def test_both_ends_and_numbers_of_weights(keras, kept):
    model, optimizer = masked(keras, kept=kept)
    theta = mlp(keras).get_weights()
    fit(model)
    optimizer.check()
    counts = [int(mask.sum()) for mask in optimizer.masks().values()]
    assert counts == ([24, 5] if isinstance(kept, dict) else [24 * kept, 18 * kept])
    if kept == 1:
        assert all((now == then).all() for now, then in zip(
            model.get_weights(), theta, strict=True))


def test_equal_scores_go_by_position(keras):
    model, optimizer = masked(keras, rate=0.0, kept=0.25)
    for scores in optimizer.state.scores.values():
        optimizer.host.write(scores, np.full(tuple(scores.shape), -0.5, np.float32))
    fit(model)
    for mask in optimizer.masks().values():
        number = round(0.25 * mask.size)
        assert mask.ravel().tolist() == [0] * (mask.size - number) + [1] * number
    optimizer.check()


def test_all_else_is_frozen_but_statistics(keras):
    model = keras.Sequential([
        keras.layers.Input((4,)), keras.layers.Dense(6, name="a"),
        keras.layers.BatchNormalization(name="n"), keras.layers.Dense(5, name="left_out"),
        keras.layers.Dense(3, "softmax", name="b")])
    _, optimizer = masked(keras, model, kept=0.5, exclude=["left_out"])
    before = optimizer.ticket().weights
    fit(model, 2)
    now = {name: optimizer.host.read(weight) for name, weight in optimizer.host.weights.items()}
    moved = {name for name in before if (before[name] != now[name]).any()}
    assert moved == {A, B, "n/moving_mean", "n/moving_variance"}
    assert list(optimizer.masks()) == [A, B]
    assert set(optimizer.host.frozen) == {"a/bias", "b/bias", "n/gamma", "n/beta",
                                          "left_out/kernel", "left_out/bias"}
    optimizer.check()


def test_the_ticket_is_theta_0_and_what_the_model_computes(keras):
    model, optimizer = masked(keras, kept=0.5)
    fit(model, 2)
    ticket = optimizer.ticket()
    assert ticket.level == 1 and ticket.density == 0.5
    assert ticket.provenance["settings"] == {"supermask": "edge_popup", "kept": 0.5, "seed": 3}
    with_ticket = ticket.apply(mlp(keras))
    assert (with_ticket.predict(X, verbose=0) == model.predict(X, verbose=0)).all()


@pytest.mark.parametrize("settings", [
    pytest.param(settings, id=name, marks=() if name == "bernoulli" else pytest.mark.thorough)
    for name, settings in METHODS.items()])
def test_begun_again_it_repeats_without_compiling_anew(keras, settings):
    calls = []

    def counted(value):
        calls.append(1)
        return keras.activations.tanh(value)
    model = mlp(keras, activation=counted)
    theta = model.get_weights()
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 12)
    model, optimizer = masked(keras, model, schedule, {"momentum": 0.9}, **settings)
    losses = fit(model, 3)
    masks, times = optimizer.masks(), len(calls)
    names = list(optimizer.host.weights)
    optimizer.begin(dict(zip(names, theta, strict=True)))
    assert fit(model, 3) == losses
    assert all((optimizer.masks()[name] == mask).all() for name, mask in masks.items())
    optimizer.begin({A: -theta[0]}, {A: 6, B: 9}, seed=4)
    assert fit(model, 3) != losses
    optimizer.check()
    ticket = optimizer.ticket()
    assert ticket.provenance["settings"]["seed"] == 4 and (ticket.weights[A] == -theta[0]).all()
    assert [int(mask.sum()) for mask in ticket.masks.values()] == [6, 9]
    assert len(calls) == times
    optimizer.begin(dict(zip(names, theta, strict=True)), seed=3)
    assert fit(model, 3) == losses or "kept" in settings  # Numbers stay as they were last.


@pytest.mark.parametrize("settings", [METHODS["bernoulli"], METHODS["edge_popup"]])
def test_the_optimizers_variables_are_all_there_is_to_keep(keras, settings):
    model, optimizer = masked(keras, options={"momentum": 0.9}, **settings)
    fit(model, 2)
    kept = [optimizer.host.read(variable) for variable in optimizer.variables]
    weights, losses = model.get_weights(), fit(model, 2)
    other = mlp(keras)
    other.set_weights([value + 1 for value in other.get_weights()])
    other, resumed = masked(keras, other, options={"momentum": 0.9}, **settings | {"seed": 9})
    other.set_weights(weights)
    for variable, value in zip(resumed.variables, kept, strict=True):
        resumed.host.write(variable, value)
    assert fit(other, 2) == losses
    assert all((resumed.masks()[name] == mask).all() for name, mask in optimizer.masks().items())
    assert (resumed.ticket().weights[A] == mlp(keras).get_weights()[0]).all()


def test_bernoulli_settles_on_what_is_most_probable(keras):
    model, optimizer = masked(keras, method="bernoulli", rate=50.0)
    fit(model, 3)
    scores = optimizer.host.read(optimizer.state.scores[A])
    assert (optimizer.masks()[A] == (scores > 0)).all() and 0 < (scores > 0).mean() < 1
    optimizer.settle()
    optimizer.check()
    assert (model.get_weights()[0] == np.where(scores > 0, mlp(keras).get_weights()[0], 0)).all()
    model, optimizer = masked(keras, method="bernoulli", kept=0.25, rate=50.0)
    fit(model, 3)
    scores = optimizer.host.read(optimizer.state.scores[A])
    assert (optimizer.masks()[A] != 0).sum() == 6
    assert scores[optimizer.masks()[A] != 0].min() > scores[optimizer.masks()[A] == 0].max()


@pytest.mark.parametrize("settings", [
    pytest.param(settings, id=name, marks=() if name == "edge_popup" else pytest.mark.thorough)
    for name, settings in METHODS.items()])
def test_weights_of_an_earlier_step_are_found_and_settled(keras, settings):
    model, optimizer = masked(keras, rate=5.0, **settings)
    earlier = model.get_weights()
    fit(model, 3)
    optimizer.settle()
    wanted, ticket = model.get_weights(), optimizer.ticket()
    model.set_weights(earlier)  # As EarlyStopping(restore_best_weights=True) does.
    assert any((now != then).any() for now, then in zip(wanted, earlier, strict=True))
    if settings.get("method") != "bernoulli":  # Whose model is another draw anyway.
        for read in (optimizer.masks, optimizer.ticket):
            with pytest.raises(LotteryError, match=r"'a/kernel' that are otherwise.*settle\(\)"):
                read()
    optimizer.settle()
    optimizer.check()
    assert all((mask == ticket.masks[name]).all() for name, mask in optimizer.masks().items())
    for now, then in zip(model.get_weights(), wanted, strict=True):
        np.testing.assert_allclose(now, then, rtol=1e-6)
    masks = optimizer.masks()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[keras.callbacks.EarlyStopping(
        "loss", mode="max", patience=1, restore_best_weights=True)])
    optimizer.settle()
    optimizer.check()
    assert masks.keys() == optimizer.ticket().masks.keys()


def test_settling_what_is_right_changes_no_bit(keras):
    model, optimizer = masked(keras, method="biprop", kept=0.5)
    fit(model, 2)
    before = model.get_weights()
    optimizer.settle()
    assert all((now == then).all() for now, then in zip(
        model.get_weights(), before, strict=True))


def test_what_has_diverged_says_so(keras):
    model, optimizer = masked(keras, rate=float("inf"), kept=0.5)
    assert np.isnan(fit(model, 2)[-1])
    for ask in (optimizer.masks, optimizer.ticket, optimizer.settle, optimizer.check):
        with pytest.raises(DivergedError, match="NaN among those of"):
            ask()


def test_a_weight_that_something_else_moves_is_found(keras):
    for place, error in ((0, "initial weights and zeros"), (1, "'a/bias' must not be trained")):
        model, optimizer = masked(keras, kept=0.5)
        arrays = model.get_weights()
        arrays[place].flat[0] += 1
        model.set_weights(arrays)
        with pytest.raises(InvariantError, match=error):
            optimizer.check()
    model, optimizer = masked(keras, kept=0.5)
    mask = optimizer.host.read(optimizer.state.masks[A])
    optimizer.host.write(optimizer.state.masks[A], ~mask)
    with pytest.raises(InvariantError, match="12 largest"):
        optimizer.check()


def test_weight_decay_and_the_learning_rate_are_those_of_scores(keras):
    model, optimizer = masked(keras, rate=0.1, options={"weight_decay": 0.5}, kept=0.5)
    zeros = np.zeros_like(X)
    before = {name: optimizer.host.read(value) for name, value in optimizer.state.scores.items()}
    model.train_on_batch(zeros, Y)  # The first kernel gets no gradient.
    np.testing.assert_allclose(optimizer.host.read(optimizer.state.scores[A]),
                               0.95 * before[A], rtol=1e-6)
    optimizer.learning_rate = 0.0
    now = optimizer.host.read(optimizer.state.scores[B])
    model.train_on_batch(X, Y)
    assert (optimizer.host.read(optimizer.state.scores[B]) == now).all()
    assert int(optimizer.iterations) == 2


@pytest.mark.parametrize(("settings", "error"), [
    ({"kept": 1.5}, r"kept must be a number in \[0, 1\]"), ({}, "edge_popup needs kept="),
    ({"kept": {A: 3}}, "kept must give a whole number for each of a/kernel, b/kernel"),
    ({"kept": {A: 3, B: 99}}, r"in \[0, 18\] for 'b/kernel'. Received: 99"),
    ({"kept": 0.5, "rescale": True}, "are for bernoulli"),
    ({"kept": 0.5, "method": "popup"}, "Did you mean edge_popup"),
    ({"kept": 0.5, "seed": 0.5}, "seed must be a whole number")])
def test_what_is_wrong_is_said(keras, settings, error):
    with pytest.raises(LotteryError, match=error):
        masked(keras, **settings)


def test_begin_takes_the_models_weights(keras):
    _, optimizer = masked(keras, kept=0.5)
    with pytest.raises(LotteryError, match="'c' of shape"):
        optimizer.begin({"c": np.zeros(3)})
    with pytest.raises(LotteryError, match="'a/kernel' of shape"):
        optimizer.begin({A: np.zeros(3)})
    with pytest.raises(LotteryError, match="counts must give"):
        optimizer.begin({}, {A: 3})


def test_a_model_or_an_optimizer_that_does_not_work_is_refused(keras):
    sgd = keras.optimizers.SGD
    built = sgd()
    built.build(mlp(keras).trainable_variables)
    for optimizer, error in ((built, "taken no step"), (sgd(use_ema=True), "moving average")):
        with pytest.raises(LotteryError, match=error):
            lth.Supermask(mlp(keras), optimizer, 0.5)
    for dtype, error in (("mixed_float16", "mixed_float16"), ("float64", "of float64")):
        if dtype == "float64" and "jax" in str(getattr(keras, "backend", keras).backend()):
            continue  # Where there is none.
        with pytest.raises(LotteryError, match=error):
            lth.Supermask(mlp(keras, dtype=dtype), sgd(), 0.5)
    constrained = mlp(keras, kernel_constraint="non_neg")
    with pytest.raises(LotteryError, match="constraint"):
        lth.Supermask(constrained, sgd(), 0.5)
    with pytest.raises(LotteryError, match="is pruned already|wrapped for pruning"):
        lth.Supermask(lth.Ticket({**dict(zip(["a/kernel", "a/bias", "b/kernel", "b/bias"],
                                             mlp(keras).get_weights(), strict=True))},
                                 {A: np.eye(4, 6), B: np.ones((6, 3))}, 1).apply(mlp(keras)),
                      sgd(), 0.5)


@pytest.mark.filterwarnings("ignore:Skipping variable loading")
def test_a_saved_model_has_the_wrapped_optimizer(keras, tmp_path):
    model, _ = masked(keras, rate=0.25, kept=0.5)
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer).__name__ == "SGD"
    assert float(loaded.optimizer.learning_rate) == 0.25
    assert (loaded.predict(X, verbose=0) == model.predict(X, verbose=0)).all()
