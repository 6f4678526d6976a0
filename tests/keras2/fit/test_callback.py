import csv
import itertools
from fractions import Fraction

import networks
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, Phase, settings
from hypothesis import strategies as st
from networks import BATCH, compiled, fit, lottery, Spy, State, STEPS, X, Y

import lth_keras as lth
from lth_keras.errors import InvariantError, LotteryError
from lth_keras.search.fit.round_record import Round

layers = keras.layers
callbacks = keras.callbacks


def setup_function():
    keras.utils.set_random_seed(0)


def kept_by_level(size, fraction, rounds):
    """How many of `size` weights each level keeps: round(fraction x remaining) go."""
    counts = [size]
    for _ in range(rounds):
        counts.append(counts[-1] - round(Fraction(str(fraction)) * counts[-1]))
    return counts


def searched(*others, model=None, watch=True, epochs=None, validate=False, **options):
    """A model after a checked search, the search, and the spy that watched it."""
    model = compiled() if model is None else model
    search = lottery(**options)
    spy = Spy(search)
    fit(model, search, *([spy] if watch else []), *others, epochs=epochs, validate=validate)
    return model, search, spy


def same(one, other):
    assert len(one) == len(other)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


# Levels and their masks.


@settings(max_examples=5, phases=[Phase.generate])  # Shrinking would train for minutes.
@given(units=st.lists(st.integers(1, 9), min_size=1, max_size=2), rounds=st.integers(0, 3),
       fraction=st.sampled_from([0.07, 0.2, 0.5, 0.9]), scope=st.sampled_from(["layer", "global"]))
def test_a_search_keeps_its_promises(units, rounds, fraction, scope):
    model = compiled(lth.prune_low_magnitude(networks.mlp(tuple(units))))
    theta = State.of(model).weights
    _, search, spy = searched(model=model, rounds=rounds, epochs_per_round=1, fraction=fraction,
                              scope=scope)
    levels = [state.kept for state in spy.ends()]
    assert len(levels) == rounds + 1
    sizes = [mask.size for mask in levels[0]]
    counted = [[int(mask.sum()) for mask in masks] for masks in levels]
    if scope == "layer":
        assert [list(counts) for counts in zip(*counted, strict=True)] \
            == [kept_by_level(size, fraction, rounds) for size in sizes]
    else:
        assert [*map(sum, counted)] == kept_by_level(sum(sizes), fraction, rounds)
    for before, after in itertools.pairwise(levels):
        assert all((late <= early).all() for early, late in zip(before, after, strict=True))
    assert {state.strays for state in spy.after} == {0}
    for start in spy.starts():
        masks = iter(start.kept)
        expected = [np.where(next(masks), value, 0).astype(value.dtype) if value.ndim == 2
                    else value for value in theta]
        same(start.weights, expected)
    assert search.results.density.tolist() \
        == pytest.approx([sum(counts) / sum(sizes) for counts in counted], abs=1e-12)
    assert [ticket.level for ticket in search.tickets] == list(range(rounds + 1))


def test_each_ticket_holds_theta_and_the_masks_of_its_level():
    model = compiled()
    theta = State.of(model).weights
    _, search, spy = searched(model=model, provenance={"dataset": "blobs"}, seed=5)
    for ticket, end in zip(search.tickets, spy.ends(), strict=True):
        same([*ticket.masks.values()], [mask.astype(np.uint8) for mask in end.kept])
        same([ticket.weights[name] for name in
              ("dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias")], theta)
    assert search.ticket is search.tickets[-1]
    settings_ = search.ticket.provenance["settings"]
    assert settings_["dataset"] == "blobs"
    assert settings_["schedule"]["rounds"] == 2
    assert (settings_["seed"], settings_["criterion"], settings_["scope"]) \
        == (5, "magnitude", "layer")
    assert search.ticket.provenance["pruned_after"]["level"] == 1


@pytest.mark.parametrize(("fraction", "expected", "scope"), [
    ({"default": 0.25, "output": 0.5}, [0.75, 0.75, 0.5], "layer"),
    ({"default": 0.25, "output": 0.5}, [0.75, 0.75, 0.5], "global"),
    ({"first": 0.5, "output": 0.0, "Dense": 0.25}, [0.5, 0.75, 1.0], "layer"),
    ({"default": 0.25, "Dense": 0.5, "last": 0.0}, [0.5, 0.5, 1.0], "layer"),
])
def test_fractions_go_by_layer_name_output_type_and_default(fraction, expected, scope):
    model = keras.Sequential([layers.Input((6,)), layers.Dense(4, name="first"),
                              layers.Dense(8, name="second"), layers.Dense(2, name="last")])
    model, _, _ = searched(model=compiled(lth.prune_low_magnitude(model)), watch=False, rounds=1,
                           epochs_per_round=1, fraction=fraction, scope=scope)
    densities = [mask.mean() for mask in networks.masks(model)]
    if scope == "layer":
        assert densities == expected
    for share in set(expected):  # Globally, weights of one fraction are pruned together.
        group = [mask for mask, part in zip(networks.masks(model), expected, strict=True)
                 if part == share]
        size = sum(mask.size for mask in group)
        assert sum(mask.sum() for mask in group) == share * size


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_magnitude_prunes_the_smallest_trained_weights_of_a_layer_or_of_all(scope):
    model = compiled()
    model.layers[0].layer.kernel.assign(model.layers[0].layer.kernel * 0.1)
    _, _, spy = searched(model=model, rounds=1, fraction=0.25, scope=scope)
    trained, masks = spy.ends()[0].weights, spy.starts()[1].kept
    pairs = [(np.abs(weight).ravel(), mask.ravel()) for weight, mask
             in zip((trained[0], trained[2]), masks, strict=True)]
    if scope == "global":
        pairs = [tuple(map(np.concatenate, zip(*pairs, strict=True)))]
    for weight, mask in pairs:
        assert (mask == 0).sum() == 0.25 * mask.size
        assert weight[mask == 0].max() < weight[mask == 1].min()


def test_a_function_scores_from_the_weights_before_and_after_the_round():
    seen = []

    def least_moved(initial, final, rng):
        seen.append((initial, final, rng))
        return np.abs(final - initial)

    _, search, spy = searched(rounds=1, criterion=least_moved, rewind_step=3)
    (initial, final, rng), _ = seen
    same([initial, final], [spy.after[2].weights[0], spy.ends()[0].weights[0]])
    assert isinstance(rng, np.random.Generator)
    mask, moved = spy.starts()[1].kept[0], np.abs(final - initial)
    assert moved[mask == 0].max() < moved[mask == 1].min()
    assert "least_moved" in search.ticket.provenance["settings"]["criterion"]


def test_random_masks_depend_on_the_seed_and_on_no_global_state():
    def masks(seed, state):
        np.random.seed(state)
        model, _, _ = searched(watch=False, rounds=1, epochs_per_round=1, criterion="random",
                               seed=seed)
        return np.concatenate([mask.ravel() for mask in networks.masks(model)])
    assert (masks(1, 0) == masks(1, 99)).all()
    assert (masks(1, 0) != masks(2, 0)).any()


def test_the_search_is_the_same_without_the_checks():
    start, found = None, []
    for check in (True, False):
        model = compiled()
        start = start or model.get_weights()
        model.set_weights(start)
        found.append(searched(model=model, watch=False, check=check)[1].ticket)
    same([*found[0].masks.values()], [*found[1].masks.values()])
    same([*found[0].weights.values()], [*found[1].weights.values()])


# Rewinding.


def moments(model, state):
    """Adam's moments, each with the mask of its weight."""
    for (weight, _), mask in zip(networks.pruning_vars(model), state.kept, strict=True):
        for variable, value in zip(model.optimizer.variables, state.optimizer, strict=True):
            if variable.name.endswith((f"m/{weight.name}", f"v/{weight.name}")):
                yield value, mask


@pytest.mark.parametrize(("rewind_step", "jit"), [
    (0, False), (1, False), (STEPS + 1, True)])
def test_every_round_starts_from_the_state_of_step_k(rewind_step, jit):
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    model = compiled(lth.prune_low_magnitude(networks.normalised()), keras.optimizers.Adam(rate),
                     jit=jit)
    _, search, spy = searched(model=model, rewind_step=rewind_step)
    theta = spy.before[rewind_step]
    assert [state.iterations for state in spy.starts()[1:]] == [rewind_step] * 2
    for start in spy.starts()[1:]:
        for before, after in zip(theta.weights, start.weights, strict=True):
            assert ((after == before) | (after == 0)).all()
            assert before.ndim == 2 or after.tobytes() == before.tobytes()
        pairs = [*zip(moments(model, theta), moments(model, start), strict=True)]
        assert len(pairs) == 4
        for (before, _), (after, mask) in pairs:
            np.testing.assert_array_equal(after, np.where(mask, before, 0))
    rates = [[state.rate for state in spy.after if state.level == level] for level in range(3)]
    expected = [0.1 * 0.5 ** step for step in range(rewind_step + 2 * STEPS)]
    assert rates[0] == pytest.approx(expected[:2 * STEPS])
    assert rates[1] == rates[2] == pytest.approx(expected[rewind_step:])
    assert [restored.iterations for restored in search.restored] == [rewind_step] * 2
    assert search.restored[0].statistics == 2


# Rounds.


def lengths(spy):
    return [len(list(group)) for _, group in itertools.groupby(s.level for s in spy.after)]


def test_rounds_of_epochs():
    _, search, spy = searched(rounds=2, epochs_per_round=2)
    assert search.epochs == 6
    assert lengths(spy) == [2 * STEPS] * 3
    assert search.results.epochs.tolist() == [2] * 3
    assert search.results.steps.tolist() == [2 * STEPS] * 3


@pytest.mark.parametrize("length", [1, 3, STEPS + 1])
def test_rounds_of_steps_end_in_the_middle_of_an_epoch_too(length):
    _, search, spy = searched(rounds=2, steps_per_round=length)
    assert search.epochs_for(STEPS) == -(-3 * length // STEPS)
    assert lengths(spy) == [length] * 3
    assert search.results.steps.tolist() == [length] * 3
    assert {state.strays for state in spy.after} == {0}


@pytest.mark.parametrize("options", [{"epochs_per_round": 1}, {"steps_per_round": 2},
                                     {"steps_per_round": 4, "rewind_step": 2}])
def test_several_steps_an_execution(options):
    model = compiled(steps_per_execution=2)
    _, search, spy = searched(model=model, **options)
    assert search.results.steps.tolist() == [options.get("steps_per_round", STEPS)] * 3
    assert {state.strays for state in spy.after} == {0}
    assert [state.iterations for state in spy.starts()] \
        == [0, *[options.get("rewind_step", 0)] * 2]


def test_training_resumed_at_a_later_epoch():
    search = lottery(rounds=1)
    compiled().fit(X, Y, initial_epoch=3, epochs=7, callbacks=[search], verbose=0)
    assert search.results.epochs.tolist() == [2, 2]


def test_metrics_start_over_where_a_round_ends_in_mid_epoch():
    model = compiled(optimizer="sgd", metrics=[CountExamples()])
    seen = []

    class Watch(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs["examples"])

    searched(Watch(), model=model, watch=False, steps_per_round=3)
    assert seen == [BATCH * count for count in (1, 2, 3, 1, 1, 2, 1, 2, 1)]


class CountExamples(keras.metrics.Metric):
    def __init__(self):
        super().__init__(name="examples")
        self.total = self.add_weight("total", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(float(y_true.shape[0] or BATCH))

    def result(self):
        return self.total.read_value()


@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, keras.optimizers.legacy.Adam])
def test_a_search_runs_under_a_distribution_strategy(optimizer):
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = compiled(optimizer=optimizer(0.1))
    _, search, _ = searched(model=model, watch=False, epochs_per_round=1, fraction=0.5)
    assert search.results.density.tolist() == [1.0, 0.5, 0.25]
    assert search.restored[0].learning_rate == pytest.approx(0.1)
    assert networks.strays(model) == 0


def test_one_instance_searches_one_model_after_another():
    search = lottery(rounds=1, epochs_per_round=1)
    fit(compiled(), search)
    first = search.ticket
    other = compiled(lth.prune_low_magnitude(networks.mlp((5, 4))))
    fit(other, search)
    assert search.results.level.tolist() == [0, 1]
    assert len(search.restored) == 1
    assert [ticket.level for ticket in search.tickets] == [0, 1]
    assert set(search.ticket.masks) == {"dense/kernel", "dense_1/kernel", "dense_2/kernel"}
    assert set(first.masks) == {"dense/kernel", "dense_1/kernel"}


def test_a_searched_model_is_searched_on_from_its_masks():
    model, search, _ = searched(watch=False, rounds=1, epochs_per_round=1, fraction=0.5)
    fit(model, search)
    assert search.results.density.tolist() == [0.5, 0.25]


class Traced(layers.Dense):
    """Counts how often Python runs its call: when a graph is traced."""

    traces = 0

    def call(self, inputs):
        type(self).traces += 1
        return super().call(inputs)


@pytest.mark.parametrize(("options", "jit"), [
    ({"epochs_per_round": 1}, False), ({"steps_per_round": 3}, True)])
def test_nothing_is_traced_anew_after_the_first_round(options, jit):
    counts = []

    class Watch(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counts.append((self.model.train_tf_function.experimental_get_tracing_count(),
                           Traced.traces))

    model = keras.Sequential([layers.Input((6,)), Traced(5), layers.Dense(2)])
    searched(Watch(), model=compiled(lth.prune_low_magnitude(model), jit=jit), watch=False,
             rounds=3, validate=True, **options)
    assert len(counts) >= 3
    assert len(set(counts)) == 1
    assert counts[0][0] == 1


# Round callbacks: each round is a training of its own to them.


class Hooks(callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.heard = []

    def on_train_begin(self, logs=None):
        self.heard.append("begin")

    def on_train_end(self, logs=None):
        self.heard.append("end")

    def on_epoch_begin(self, epoch, logs=None):
        self.heard.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self.heard.append(".")

    def on_test_end(self, logs=None):
        self.heard.append("test")


def test_round_callbacks_see_each_round_from_its_beginning_to_its_end():
    hooks = Hooks()
    searched(watch=False, rounds=1, round_callbacks=[hooks], validate=True)
    epoch = [".", ".", ".", ".", "test"]
    assert hooks.heard == ["begin", 0, *epoch, 1, *epoch, "end"] * 2


def test_round_callbacks_see_a_round_in_mid_epoch_from_its_beginning():
    hooks = Hooks()
    searched(watch=False, rounds=1, steps_per_round=3, round_callbacks=[hooks])
    assert hooks.heard == ["begin", 0, ".", ".", ".", "end", "begin", 0, ".", 1, ".", ".", "end"]


def never_better(**options):
    """An EarlyStopping that ends a round after its second epoch."""
    return callbacks.EarlyStopping("loss", min_delta=1e9, patience=1, **options)


def test_early_stopping_ends_the_round_and_not_the_search():
    _, search, spy = searched(rounds=2, epochs_per_round=4, round_callbacks=[never_better()])
    assert search.results.epochs.tolist() == [2, 2, 2]
    assert lengths(spy) == [2 * STEPS] * 3


def test_early_stopping_gives_its_best_weights_to_the_pruning():
    finals = []

    def criterion(initial, final, rng):
        finals.append(final)
        return np.abs(final)

    _, _, spy = searched(rounds=1, epochs_per_round=4, criterion=criterion,
                         round_callbacks=[never_better(restore_best_weights=True)])
    same(finals, [spy.after[STEPS - 1].weights[0], spy.after[STEPS - 1].weights[2]])


def test_a_learning_rate_scheduler_counts_epochs_from_each_rounds_start():
    seen = []
    scheduler = callbacks.LearningRateScheduler(lambda epoch, rate: seen.append(epoch) or rate / 2)
    _, _, spy = searched(round_callbacks=[scheduler], model=compiled(
        optimizer=keras.optimizers.SGD(0.25)))
    assert seen == [0, 1] * 3
    rates = [state.rate for state in spy.after]
    assert rates == ([0.125] * STEPS + [0.0625] * STEPS) * 3


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, keras.optimizers.legacy.SGD])
def test_reduce_lr_on_plateau_starts_over(optimizer):
    plateau = callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    _, _, spy = searched(model=compiled(optimizer=optimizer(0.25)), epochs_per_round=4,
                         round_callbacks=[plateau])
    rates = [state.rate for state in spy.after]
    assert rates == ([0.25] * 2 * STEPS + [0.125] * STEPS + [0.0625] * STEPS) * 3


# Other callbacks of the same fit, and what is logged.


def test_callbacks_listed_after_see_the_trained_network_where_a_round_ends(tmp_path):
    model = compiled()
    checkpoint = callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.weights.h5"),
                                           save_weights_only=True)
    losses = []

    class Watch(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            losses.append((logs["val_loss"], State.of(self.model)))

    _, _, spy = searched(checkpoint, Watch(), model=model, epochs_per_round=1, validate=True)
    twin = compiled()
    for epoch, (end, (loss, state)) in enumerate(zip(spy.ends(), losses, strict=True), 1):
        twin.load_weights(tmp_path / f"{epoch}.weights.h5")
        same(State.of(twin).weights, end.weights)
        same(state.weights, end.weights)
        same(networks.masks(twin), end.kept)
        assert twin.evaluate(X[:8], Y[:8], verbose=0) == pytest.approx(loss, rel=1e-5)


def test_the_model_is_left_trained_at_the_last_level():
    model, search, spy = searched()
    same(State.of(model).weights, spy.after[-1].weights)
    same(networks.masks(model), [*map(np.float32, search.ticket.masks.values())])


def test_history_csv_and_tensorboard_have_level_and_density(tmp_path, monkeypatch):
    written = networks.record_summaries(monkeypatch)
    model, search = compiled(), lottery(fraction=0.5)
    history = fit(model, search, callbacks.CSVLogger(str(tmp_path / "log.csv")),
                  callbacks.TensorBoard(str(tmp_path / "logs"), write_graph=False))
    levels, densities = [0, 0, 1, 1, 2, 2], [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert history.history["level"] == levels
    assert history.history["density"] == densities
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [int(row["level"]) for row in rows] == levels
    assert [float(row["density"]) for row in rows] == densities
    assert written["epoch_level"] == levels
    assert written["epoch_density"] == densities


def test_results_have_a_row_a_level_with_the_last_epochs_metrics():
    model = compiled(metrics=["mae"])
    search = lottery(fraction=0.5)
    history = fit(model, search, validate=True).history
    results = search.results
    assert isinstance(results, pd.DataFrame)
    assert [*results.columns] == ["level", "density", "steps", "epochs", "early_stop_step",
                                  "val_loss_min", "loss", "mae", "val_loss", "val_mae",
                                  "validated_step", "diverged", "seconds"]
    assert results.level.tolist() == [0, 1, 2]
    assert results.density.tolist() == [1.0, 0.5, 0.25]
    for name in ("loss", "mae", "val_loss", "val_mae"):
        assert results[name].tolist() == pytest.approx(history[name][1::2])
    losses = np.reshape(history["val_loss"], (3, 2))
    assert results.val_loss_min.tolist() == pytest.approx(losses.min(axis=1))
    assert results.early_stop_step.tolist() == [STEPS * (1 + at) for at in losses.argmin(axis=1)]
    assert (results.seconds > 0).all()


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(-3, 3)), min_size=1, max_size=6))
def test_the_early_stop_step_is_that_of_the_first_minimum(history):
    record = Round(level=1, density=0.5)
    for steps, loss in history:
        record.steps += steps
        record.end_epoch({"loss": 9.0, "val_loss": loss / 2})
    losses = [loss / 2 for _, loss in history]
    first = losses.index(min(losses))
    row = record.row()
    assert row["early_stop_step"] == sum(steps for steps, _ in history[:first + 1])
    assert row["val_loss_min"] == min(losses)
    assert (row["epochs"], row["val_loss"]) == (len(history), losses[-1])


def test_a_validation_loss_that_is_nan_is_no_minimum():
    record = Round(level=0, density=1.0)
    for loss in (float("nan"), 2.0, 1.0):
        record.steps += 10
        record.end_epoch({"val_loss": loss})
    assert (record.row()["early_stop_step"], record.row()["val_loss_min"]) == (30, 1.0)


def test_a_round_without_validation_has_no_early_stop_step():
    _, search, _ = searched(watch=False, rounds=0)
    assert search.results.early_stop_step.isna().all()
    assert search.results.val_loss_min.isna().all()


class Vector(keras.metrics.Metric):
    """A metric with a result per class, as Keras allows."""

    def __init__(self):
        super().__init__(name="vector")
        self.sums = self.add_weight("sums", (2,), initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.sums.assign_add([1.0, 2.0])

    def result(self):
        return self.sums.read_value()

    def reset_state(self):
        self.sums.assign([0.0, 0.0])


def test_a_metric_that_is_not_one_number_does_not_stop_the_search():
    _, search, _ = searched(model=compiled(metrics=[Vector()]), watch=False)
    assert search.results.level.tolist() == [0, 1, 2]


def test_a_line_a_round_is_printed_if_asked(capsys):
    searched(watch=False, fraction=0.5)
    assert "level" not in capsys.readouterr().out
    searched(watch=False, verbose=1, fraction=0.5)
    assert "level 1 of 2: 50.00% of the weights left" in capsys.readouterr().out


def test_the_callback_is_quiet_in_evaluate_before_any_fit():
    model = compiled()
    expected = model.evaluate(X, Y, verbose=0)
    assert model.evaluate(X, Y, verbose=0, callbacks=[lottery()]) == expected


# Errors.


@pytest.mark.parametrize(("options", "message"), [
    ({}, "Either schedule or its parts .*Received: neither"),
    ({"schedule": lth.LotteryTicketSchedule(1, 2), "rounds": 1}, "Either schedule or its parts"),
    ({"schedule": lth.LotteryTicketSchedule(1, 2), "fraction": 0.1}, "Either schedule"),
    ({"epochs_per_round": 1}, "rounds must be given"),
    ({"rounds": 1}, "Exactly one of steps_per_round and epochs_per_round"),
    ({"rounds": 1, "epochs_per_round": 0}, "epochs_per_round must be a whole number >= 1"),
    ({"rounds": 1, "epochs_per_round": 1, "fraction": 1.0}, "fraction must be"),
    ({"rounds": 1, "epochs_per_round": 1, "rewind_step": -1}, "rewind_step must be"),
    ({"rounds": 1, "epochs_per_round": 1, "rewind_step": 1.0}, "rewind_step must be"),
    ({"rounds": 1, "epochs_per_round": 1, "criterion": "magnitud"}, "Allowed: .*magnitude, "),
    ({"rounds": 1, "epochs_per_round": 1, "scope": "model"}, "scope must be one of"),
])
def test_settings_that_cannot_work_are_refused_at_once(options, message):
    with pytest.raises(LotteryError, match=message):
        lth.LotteryTicketCallback(**options)


@pytest.mark.parametrize(("options", "epochs", "message"), [
    ({"epochs_per_round": 2}, 7, r"must be 6 at most: .*Received: 7"),
    ({"steps_per_round": 3}, 4, r"must be 3 at most: .*Received: 4"),
    ({"steps_per_round": 3, "rewind_step": 3}, 3, "first round of 3 steps"),
    ({"epochs_per_round": 1, "rewind_step": STEPS}, 3, f"first round of {STEPS} steps"),
    ({"epochs_per_round": 1, "fraction": {"dense": 0.1}}, 3, "leaves out|names no"),
    ({"epochs_per_round": 1, "fraction": {"default": 0.1, "Conv2D": 0.1}}, 3, "Conv2D"),
])
def test_what_would_stop_a_search_halfway_is_said_before_the_first_batch(options, epochs, message):
    model, batches = compiled(), networks.Batches()
    before = State.of(model).weights
    with pytest.raises(LotteryError, match=message):
        model.fit(X, Y, batch_size=BATCH, epochs=epochs, verbose=0,
                  callbacks=[batches, lottery(**options)])
    assert batches.count == 0
    same(State.of(model).weights, before)


@pytest.mark.parametrize(("options", "message"), [
    ({"epochs_per_round": 1, "rewind_step": 1}, "rewind_step must be a step at which it does"),
    ({"steps_per_round": 3}, "steps_per_round must be a step at which it does"),
    ({"steps_per_round": 5}, r"steps_per_execution=2 steps in epochs of 4 steps.*=5"),
])
def test_a_step_that_keras_jumps_over_is_refused_before_the_first_batch(options, message):
    model, batches, search = compiled(steps_per_execution=2), networks.Batches(), lottery(**options)
    with pytest.raises(LotteryError, match=message):
        model.fit(X, Y, batch_size=BATCH, epochs=search.epochs_for(STEPS), verbose=0,
                  callbacks=[batches, search])
    assert batches.count == 0


def test_a_model_that_is_not_wrapped_is_refused_before_the_first_batch():
    model, batches = compiled(networks.mlp()), networks.Batches()
    with pytest.raises(LotteryError, match="needs a model with pruning wrappers"):
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[batches, lottery(epochs_per_round=1)])
    assert batches.count == 0


def test_a_subclassed_model_that_is_not_built_yet_is_refused_with_what_to_do():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = lth.prune_low_magnitude(layers.Dense(2))

        def call(self, inputs):
            return self.dense(inputs)

    with pytest.raises(LotteryError, match="buil[dt]"):
        searched(model=compiled(Subclassed()), watch=False)


def test_epochs_are_asked_of_the_data_where_rounds_are_counted_in_steps():
    with pytest.raises(LotteryError, match="epochs_for"):
        _ = lottery(steps_per_round=3).epochs


def test_there_is_no_ticket_before_there_is_a_search():
    with pytest.raises(LotteryError, match="once its training has reached rewind_step"):
        _ = lottery().ticket
    assert lottery().tickets == []
    assert lottery().results.empty


class Meddle(callbacks.Callback):
    """Writes into one pruned weight of the second kernel, after the optimizer's step."""

    def on_train_batch_end(self, batch, logs=None):
        weight, mask = networks.pruning_vars(self.model)[1]
        pruned = np.argwhere(mask.numpy() == 0)
        if len(pruned):
            value = weight.numpy()
            value[tuple(pruned[0])] = 1.0
            weight.assign(value)


def test_a_write_into_a_pruned_weight_stops_the_search_with_its_name_and_counts():
    with pytest.raises(InvariantError, match="1 of 8 pruned weights of 'dense_1/kernel'"):
        compiled().fit(X, Y, batch_size=networks.BATCH, epochs=3, verbose=0, callbacks=[
            Meddle(), lottery(epochs_per_round=1, fraction=0.5)])


def test_a_mask_reopened_from_outside_stops_the_search():
    class Reopen(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            for weight, mask in networks.pruning_vars(self.model):
                weight.assign(weight + 1 - mask)
                mask.assign(np.ones(mask.shape))

    with pytest.raises(InvariantError, match="of 'dense/kernel'"):
        searched(Reopen(), watch=False, fraction=0.5)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_fit_that_ends_before_the_search_warns(rounds):
    class Stop(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 2

    with pytest.warns(UserWarning, match=f"before the search did: at level 1 of {rounds}, after 4"):
        _, search, _ = searched(Stop(), watch=False, rounds=rounds)
    assert search.results.epochs.tolist() == [2, 1]
    assert search.ticket.level == 1


@pytest.mark.filterwarnings("error:fit ended before")
@pytest.mark.parametrize("options", [{"epochs_per_round": 1}, {"steps_per_round": 3},
                                     {"rounds": 0, "epochs_per_round": 1}])
def test_a_fit_that_ends_with_the_search_does_not_warn(options):
    searched(watch=False, **options)
