"""`lth.SparseTraining` against a slow reference, step by step, and what it promises."""

import importlib

import numpy as np
import pytest

import lth_keras as lth
from lth_keras.core.pruning import without_lowest
from lth_keras.errors import DivergedError, InvariantError, LotteryError
from lth_keras.sparse_training import draws, starts
from lth_keras.sparse_training.array_ops import NUMPY
from lth_keras.sparse_training.schedules import cosine_drops, cubic_counts

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 24)
NAMES = A, _, B, _ = "a/kernel", "a/bias", "b/kernel", "b/bias"
SHAPES = {A: (4, 6), B: (6, 3)}
COUNTS = {A: 10, B: 6}
METHODS = {"static": {}, "gradual": {"begin": 2, "every": 3, "until": 9},
           "set": {"every": 3, "until": 12, "drop": 0.9},
           "rigl": {"every": 3, "until": 12, "drop": 0.9}}


@pytest.fixture(params=["tf_keras", "keras"])
def keras(request):
    module = importlib.import_module(request.param)
    module.utils.set_random_seed(0)
    return module


def mlp(keras, **options):
    """A tiny network whose biases are not zero; the same weights in every Keras."""
    model = keras.Sequential([
        keras.layers.Input((4,)), keras.layers.Dense(6, "tanh", name="a", **options),
        keras.layers.Dense(3, "softmax", name="b")])
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=np.shape(value)) for value in model.get_weights()])
    return model


def sparse(keras, method, optimizer=None, model=None, jit=False, **settings):
    model = mlp(keras) if model is None else model
    settings = {"density": COUNTS, "seed": 3, **METHODS[method], **settings}
    optimizer = lth.SparseTraining(
        model, optimizer or keras.optimizers.SGD(0.5), method, **settings)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=jit)
    return model, optimizer


def step(model, number):
    place = slice(8 * (number % 3), 8 * (number % 3) + 8)
    model.train_on_batch(X[place], Y[place])


class Reference:
    """The same in NumPy and float64, with sorts; SGD without momentum."""

    def __init__(self, weights, method, *, seed=3, rate=0.5):
        self.method, self.rate, self.steps = method, rate, 0
        self.key, self.options = starts.key(seed), METHODS[method]
        self.masks = {name: np.ones(SHAPES[name], bool) for name in SHAPES} \
            if method == "gradual" else {name: mask != 0 for name, mask in starts.random_masks(
                COUNTS, SHAPES, seed).items()}
        self.now = {name: value * self.masks.get(name, 1) for name, value in zip(
            NAMES, map(np.float64, weights), strict=True)}

    def gradients(self, x, y):
        hidden = np.tanh(x @ self.now[A] + self.now["a/bias"])
        logits = hidden @ self.now[B] + self.now["b/bias"]
        error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        error[np.arange(len(y)), y] -= 1
        error /= len(y)
        inner = (error @ self.now[B].T) * (1 - hidden ** 2)
        return {A: x.T @ inner, "a/bias": inner.sum(0), B: hidden.T @ error,
                "b/bias": error.sum(0)}

    def step(self, x, y):
        found = self.gradients(x, y)
        self.steps += 1
        every, until = self.options.get("every", 1), self.options.get("until", 0)
        moves = self.method in ("set", "rigl") and self.steps % every == 0 and self.steps <= until
        if not moves:
            for name, gradient in found.items():
                self.now[name] = self.now[name] - self.rate * gradient * self.masks.get(name, 1)
        for place, name in enumerate(SHAPES):
            if moves:
                self.regrow(name, found[name], place)
            elif self.method == "gradual":
                since = self.steps - self.options["begin"]
                if self.steps == until or (since >= 0 and since % every == 0
                                           and self.steps < until):
                    table = [SHAPES[name][0] * SHAPES[name][1] - COUNTS[name], 0, 0, 0]
                    share = [1, (2 / 3) ** 3, (1 / 3) ** 3, 0][
                        3 if self.steps == until else since // every]
                    self.keep(name, COUNTS[name] + round(table[0] * share))
            self.now[name] = self.now[name] * self.masks[name]

    def keep(self, name, number):
        self.masks[name] = without_lowest(
            {"": abs(self.now[name])}, {"": self.masks[name]},
            int(self.masks[name].sum()) - number)[""] != 0

    def regrow(self, name, gradient, place):
        share = self.options["drop"] / 2 * (
            1 + np.cos(np.pi * self.steps / self.options["until"]))
        drop = round(share * COUNTS[name])
        order = abs(gradient) if self.method == "rigl" else draws.words(
            NUMPY, SHAPES[name], self.key, np.int32([self.steps]), place)
        self.keep(name, COUNTS[name] - drop)
        free = ~self.masks[name]
        self.masks[name] |= without_lowest(
            {"": order}, {"": free}, int(free.sum()) - drop)[""] != 0


@pytest.mark.parametrize(("method", "jit"), [
    pytest.param(method, jit, id=f"{method}-{jit}",
                 marks=() if (method, jit) == ("rigl", True) else pytest.mark.thorough)
    for method in METHODS for jit in (False, True)])
def test_every_step_is_the_references(keras, method, jit):
    model, optimizer = sparse(keras, method, jit=jit)
    reference = Reference(mlp(keras).get_weights(), method)
    moved = 0
    for number in range(17):  # Beyond the last update.
        for name, mask in optimizer.masks().items():
            assert (mask == reference.masks[name]).all(), (number, name)
        for value, then in zip(model.get_weights(), reference.now.values(), strict=True):
            np.testing.assert_allclose(value, then, rtol=1e-4, atol=1e-5)
        optimizer.check()
        before = dict(reference.masks)
        step(model, number)
        reference.step(X[8 * (number % 3):][:8], Y[8 * (number % 3):][:8])
        moved += sum(int((before[name] != reference.masks[name]).sum()) for name in SHAPES)
    assert moved == {"static": 0, "gradual": 26}.get(method, moved)
    assert method in ("static", "gradual") or moved > 10
    assert {name: int(mask.sum()) for name, mask in optimizer.masks().items()} == COUNTS


@pytest.mark.parametrize(("method", "name"), [
    pytest.param(method, name, marks=() if (method, name) == ("rigl", "Adam")
                 else pytest.mark.thorough) for method in METHODS for name in ("SGD", "Adam")])
def test_what_is_pruned_and_what_grows_begins_at_zero(keras, method, name):
    rate = {"SGD": {"learning_rate": 0.2, "momentum": 0.9, "nesterov": True}}.get(name, {})
    model, optimizer = sparse(keras, method, getattr(keras.optimizers, name)(**rate))
    grown = 0
    for number in range(10):
        before, weights = optimizer.masks(), model.get_weights()
        state = {kind: [optimizer.host.read(slot) for slot, _ in slots]
                 for kind, slots in optimizer.state.slots.items()}
        step(model, number)
        optimizer.check()
        moves = method in ("set", "rigl") and number % 3 == 2
        now = dict(zip(NAMES, model.get_weights(), strict=True))
        assert (now["a/bias"] == weights[1]).all() == moves  # Not even a bias.
        for kernel, mask in optimizer.masks().items():
            variable = optimizer.host.kernels[kernel]
            new = (mask != 0) & (before[kernel] == 0)
            grown += new.sum()
            assert not now[kernel][new | (mask == 0)].any()
            for (slot, _), then in zip(optimizer.state.slots[id(variable)], state[id(variable)],
                                       strict=True):
                value = optimizer.host.read(slot)
                assert not value[new | (mask == 0)].any()
                stayed = (mask != 0) & (before[kernel] != 0)
                assert (value[stayed] == then[stayed]).all() == moves
    assert (grown > 0) == (method in ("set", "rigl"))
    assert int(optimizer.iterations) == 10


def test_a_schedule_has_exact_counts_for_every_size():
    for size, kept, updates in ((235200, 4704, 57), (7, 0, 3), (5, 5, 1), (1000, 1, 1000)):
        exact = [kept + (size - kept) * (1 - done / updates) ** 3 for done in range(updates + 1)]
        table = cubic_counts(size, kept, updates)
        assert abs(table - exact).max() <= 0.5 + 1e-6 and (np.diff(table) <= 0).all()
        assert table[0] == size and table[-1] == kept
    drops = cosine_drops(3874, 0.3, 100, 30000)
    assert len(drops) == 300 and drops[-1] == 0 and (np.diff(drops) <= 0).all()
    assert drops[0] == 1162  # 0.3 of them, a little less.


@pytest.mark.thorough
@pytest.mark.parametrize(("distribution", "density"), [
    ("erk", 0.1), ("uniform", 0), ("balanced", 1)])
def test_the_density_is_exact_and_stays(keras, density, distribution):
    model, optimizer = sparse(keras, "set", density=density, distribution=distribution)
    counts = {name: int(mask.sum()) for name, mask in optimizer.masks().items()}
    assert sum(counts.values()) == round(density * 42)
    for number in range(4):
        step(model, number)
    optimizer.check()
    assert counts == {name: int(mask.sum()) for name, mask in optimizer.masks().items()}
    assert optimizer.ticket().provenance["settings"]["distribution"] == distribution


@pytest.mark.parametrize("method", [
    "rigl", *(pytest.param(method, marks=pytest.mark.thorough)
              for method in ("static", "gradual", "set"))])
def test_begun_again_it_repeats(keras, method):
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 12)
    model, optimizer = sparse(keras, method, keras.optimizers.Adam(schedule))

    def losses():
        return model.fit(X, Y, batch_size=8, shuffle=False, epochs=4, verbose=0).history["loss"]
    first, masks, weights = losses(), optimizer.masks(), model.get_weights()
    optimizer.begin(dict(zip(NAMES, mlp(keras).get_weights(), strict=True)))
    assert losses() == first
    assert all((now == then).all() for now, then in zip(model.get_weights(), weights, strict=True))
    assert all((optimizer.masks()[name] == mask).all() for name, mask in masks.items())
    optimizer.begin({}, {A: 5, B: 8}, seed=4)
    assert losses() != first
    optimizer.check()
    ticket = optimizer.ticket()
    assert {name: int(mask.sum()) for name, mask in ticket.masks.items()} == {A: 5, B: 8}
    assert (ticket.weights[A] == mlp(keras).get_weights()[0]).all()


def test_the_optimizers_variables_are_all_there_is_to_keep(keras):
    model, optimizer = sparse(keras, "set", keras.optimizers.Adam(0.05))
    for number in range(4):
        step(model, number)
    kept = [optimizer.host.read(variable) for variable in optimizer.variables]
    weights = model.get_weights()
    other, resumed = sparse(keras, "set", keras.optimizers.Adam(0.05), seed=9)
    other.set_weights(weights)
    for variable, value in zip(resumed.variables, kept, strict=True):
        resumed.host.write(variable, value)
    for number in range(4, 10):
        step(model, number)
        step(other, number)
    assert all((one == two).all() for one, two in zip(
        model.get_weights(), other.get_weights(), strict=True))
    assert all((resumed.masks()[name] == mask).all() for name, mask in optimizer.masks().items())


def test_the_ticket_is_theta_0(keras):
    model, optimizer = sparse(keras, "rigl")
    for number in range(5):
        step(model, number)
    ticket = optimizer.ticket()
    assert ticket.level == 1 and all((value == then).all() for value, then in zip(
        ticket.weights.values(), mlp(keras).get_weights(), strict=True))
    assert ticket.provenance["settings"] == {
        "sparse_training": "rigl", "density": COUNTS, "every": 3, "until": 12, "drop": 0.9,
        "seed": 3}


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["edge_popup", "gradual", "rigl"])
@pytest.mark.parametrize("dtype", [None, "mixed_bfloat16"])
def test_embeddings_recurrent_layers_several_steps_at_once_and_bfloat16(keras, method, dtype):
    model = keras.Sequential([
        keras.layers.Input((7,), dtype="int32"),
        keras.layers.Embedding(50, 8, name="e", dtype=dtype),
        keras.layers.LSTM(6, dtype=dtype), keras.layers.Dense(3, "softmax")])
    options, adam = {"include": ["e"]}, keras.optimizers.Adam(0.05)
    optimizer = lth.Supermask(model, adam, 0.5, **options) if method == "edge_popup" else \
        lth.SparseTraining(model, adam, method, density=0.3, every=3, until=9, **options)
    model.compile(optimizer, "sparse_categorical_crossentropy", steps_per_execution=4)
    before = optimizer.masks()
    model.fit(RNG.integers(0, 50, (64, 7)), RNG.integers(0, 3, 64), batch_size=8, epochs=2,
              verbose=0)
    optimizer.check()
    assert len(before) == 4 and int(optimizer.iterations) == 16
    assert all((before[name] != mask).any() for name, mask in optimizer.masks().items())


def test_weight_decay_acts_on_what_is_kept_and_constraints_keep_zeros(keras):
    options = {"kernel_constraint": keras.constraints.MaxNorm(0.5)}
    model, optimizer = sparse(keras, "static", keras.optimizers.SGD(0.1, weight_decay=0.5),
                              mlp(keras, **options))
    before = model.get_weights()
    model.train_on_batch(np.zeros_like(X), Y)  # The first kernel gets no gradient.
    expected = 0.95 * before[0]
    expected *= np.minimum(1, 0.5 / np.maximum(np.sqrt((expected ** 2).sum(0)), 1e-7))
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-4)
    optimizer.check()


def test_what_has_diverged_says_so(keras):
    for method in ("gradual", "rigl"):
        model, optimizer = sparse(keras, method, keras.optimizers.SGD(float("inf")))
        for number in range(3):
            step(model, number)
        with pytest.raises(DivergedError, match="that are not"):
            optimizer.ticket()


def test_a_gradient_that_is_nan_grows_nothing_in_silence(keras):
    model, optimizer = sparse(keras, "rigl")
    for number in range(2):
        step(model, number)
    weights = model.get_weights()
    model.train_on_batch(np.full_like(X, np.nan), Y)  # The step of an update: no weight moves.
    assert (model.get_weights()[1] == weights[1]).all()
    with pytest.raises(DivergedError, match="of 'a/kernel' that are not"):
        optimizer.masks()


def test_a_pruned_weight_that_something_else_moves_is_found(keras):
    model, optimizer = sparse(keras, "static")
    model.set_weights([value + 1 for value in model.get_weights()])
    with pytest.raises(InvariantError, match="14 of 14 pruned weights of 'a/kernel'"):
        optimizer.check()
    model, optimizer = sparse(keras, "static")
    mask = optimizer.host.read(optimizer.state.masks[A])
    mask.flat[np.flatnonzero(~mask)[0]] = True
    optimizer.host.write(optimizer.state.masks[A], mask)
    with pytest.raises(InvariantError, match="must keep 10 weights. Received: 11"):
        optimizer.check()


@pytest.mark.parametrize(("method", "settings", "error"), [
    ("rigl", {"density": 2}, r"density must be a number in \[0, 1\]"),
    ("rigl", {"until": None}, "rigl needs until="),
    ("rigl", {"until": 2}, "until must be a whole number >= 3"),
    ("gradual", {"until": 2}, "until must be a whole number >= 3"),
    ("set", {"drop": 0}, r"drop must be a number in \(0, 1\]"),
    ("set", {"every": 0}, "every must be a whole number >= 1"),
    ("static", {"distribution": "erdos"}, "distribution must be one of uniform, erk, balanced")])
def test_what_is_wrong_is_said(keras, method, settings, error):
    with pytest.raises(LotteryError, match=error):
        sparse(keras, method, **settings)
    with pytest.raises(LotteryError, match="method must be one of static"):
        lth.SparseTraining(mlp(keras), "sgd", "grow", density=0.5)


@pytest.mark.parametrize(("begin", "until"), [(0, 7), (0, 6), (2, 9), (0, 1)])
def test_gradual_reaches_its_density_in_step_until(keras, begin, until):
    model, optimizer = sparse(keras, "gradual", begin=begin, every=3, until=until)
    wanted = {name: COUNTS[name] for name in SHAPES}
    for number in range(until + 3):
        optimizer.check()
        reached = {name: int(mask.sum()) for name, mask in optimizer.masks().items()} == wanted
        assert reached == (number >= until)
        step(model, number)


@pytest.mark.parametrize("method", ["gradual", "rigl"])
def test_weights_of_an_earlier_step_are_found_and_may_be_pruned(keras, method):
    model, optimizer = sparse(keras, method)
    earlier = model.get_weights()
    for number in range(10):
        step(model, number)
    wanted = optimizer.masks()
    model.set_weights(earlier)  # As EarlyStopping(restore_best_weights=True) does.
    for read in (optimizer.masks, optimizer.ticket):
        with pytest.raises(LotteryError, match=r"'a/kernel' that are not.*restore_best.*settle"):
            read()
    optimizer.settle()
    assert all((optimizer.masks()[name] == mask).all() for name, mask in wanted.items())
    optimizer.check()


def test_a_layer_that_is_made_trainable_later_is_named(keras):
    model = mlp(keras)
    model.layers[0].trainable = False
    model, optimizer = sparse(keras, "static", model=model, density={B: 6})
    model.layers[0].trainable = True
    model.compile(optimizer, "sparse_categorical_crossentropy")
    # TensorFlow wraps what is raised in a step that it compiles.
    with pytest.raises(Exception, match=r"kernel.*made trainable since\. Make a new"):
        step(model, 0)
