"""What a search in `fit` says of itself: where it begins, its rounds, and Keras' bar beside it."""

import csv
import re
import warnings

import either
import pytest
from either import compiled, fit, keras_of, PACKAGES, search

import lth_keras as lth
from lth_keras.errors import LotteryError

NOT_FRESH = "Level 0 of a search should be an untrained network"


def recompiled(model, package):
    model.compile(keras_of(package).optimizers.Adam(0.01), "sparse_categorical_crossentropy",
                  metrics=["accuracy"], jit_compile=False)
    return model


# Where it begins.


@PACKAGES
@pytest.mark.parametrize("again", ["same callback", "new callback", "compiled again"])
def test_a_fit_cell_that_runs_twice_warns_at_once(package, again):
    model, lottery = compiled(package), search()
    fit(model, lottery)
    if again != "same callback":
        lottery = search()
    if again == "compiled again":
        recompiled(model, package)
    seen = []

    class Stop(keras_of(package).callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(sum(NOT_FRESH in str(warning.message) for warning in raised))

    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        fit(model, lottery, Stop())
    said = [str(warning.message) for warning in raised if NOT_FRESH in str(warning.message)]
    assert len(said) == 1 and seen == [1]  # Before any step.
    assert "of whose weights 75.0% are pruned" in said[0] and "builds and compiles" in said[0]
    assert ("steps" in said[0]) == (again != "compiled again")
    assert f"Received: {model.name!r}" in said[0]


@PACKAGES
def test_a_dense_network_that_was_trained_warns_with_its_steps(package):
    model = compiled(package)
    model.fit(either.X, either.Y, batch_size=16, epochs=2, verbose=0)
    with pytest.warns(UserWarning, match=r"has taken 8 steps, as.*compile it again\."):
        fit(model, search())


@PACKAGES
def test_a_base_that_was_compiled_and_trained_is_no_training_of_the_network(package):
    keras = keras_of(package)
    base = either.built(package)
    base.compile("sgd", "sparse_categorical_crossentropy")
    base.fit(either.X, either.Y, verbose=0)
    model = keras.Sequential([keras.Input((8,)), base, keras.layers.Dense(2, "softmax")])
    model = lth.prune_low_magnitude(model) if package == "tf_keras" else model
    recompiled(model, package)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=NOT_FRESH)
        fit(model, search(rounds=1))
    with pytest.warns(UserWarning, match=NOT_FRESH):
        fit(model, search(rounds=1))


@pytest.mark.thorough
@PACKAGES
def test_an_interrupted_search_that_begins_again_warns(package):
    class Interrupt(keras_of(package).callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    model, lottery = compiled(package), search(epochs_per_round=2)
    with pytest.raises(KeyboardInterrupt):
        fit(model, lottery, Interrupt())
    with pytest.warns(UserWarning, match=NOT_FRESH):
        fit(model, lottery)


def _new_model(model, package, lottery):
    return compiled(package)


def _compiled_after_training(model, package, lottery):
    model = compiled(package)
    model.fit(either.X, either.Y, verbose=0)
    return recompiled(model, package)


def _of_a_ticket(level):
    def applied(model, package, lottery):
        return recompiled(lottery.tickets[level].apply(model), package)
    return applied


def _pruned_at_init(model, package, lottery):
    model = recompiled(either.prunable(package), package)
    ticket = lth.prune_at_init(model, method="magnitude", density=0.5)
    return recompiled(ticket.apply(model), package)


@pytest.mark.thorough
@PACKAGES
@pytest.mark.parametrize("start", [_new_model, _compiled_after_training, _of_a_ticket(2),
                                   _of_a_ticket(1), _of_a_ticket(0), _pruned_at_init])
def test_a_legitimate_start_does_not_warn(package, start):
    model, lottery = compiled(package), search()
    fit(model, lottery)
    model = start(model, package, lottery)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=NOT_FRESH)
        fit(model, search())


@pytest.mark.thorough
@PACKAGES
def test_several_fits_and_a_workdir_that_goes_on_do_not_warn(package, tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=NOT_FRESH)
        warnings.filterwarnings("ignore", message="fit ended before the search did")
        model, lottery = compiled(package), search(rewind_step=2)
        for _ in range(lottery.epochs):
            fit(model, lottery, epochs=1)
        assert len(lottery.results) == 3
        for _ in range(2):  # The same script twice: the second finds the search finished.
            fit(compiled(package), search(workdir=tmp_path / "search"))


@PACKAGES
def test_two_searches_in_a_fit_are_refused_before_anything_is_done(package, tmp_path):
    model, lottery = compiled(package), search(workdir=tmp_path / "search")
    before = model.get_weights()
    for second in (search(), lottery):
        with pytest.raises(LotteryError, match="one LotteryTicketCallback.*Received: two"):
            fit(model, lottery, second)
    assert not (tmp_path / "search").exists()
    assert all((one == other).all() for one, other in zip(before, model.get_weights(),
                                                          strict=True))
    fit(model, lottery)  # The fit that was refused leaves nothing behind.
    assert len(lottery.results) == 3


def test_a_search_within_a_round_is_refused():
    with pytest.raises(LotteryError, match="holds no search"):
        search(round_callbacks=[search()])


# What a round came to.


@PACKAGES
def test_each_round_says_what_changed_for_the_user(package, capsys):
    lottery = search(verbose=1)
    fit(compiled(package), lottery)
    rows = lottery.results
    told = [f"ended with val_accuracy {row.val_accuracy:.4f}, val_loss {row.val_loss:.4f}"
            for row in rows.itertuples()]
    assert capsys.readouterr().out.splitlines() == [
        f"level 1 of 2: 50.00% of the weights left; level 0 {told[0]}",
        f"level 2 of 2: 25.00% of the weights left; level 1 {told[1]}",
        f"level 2 {told[2]}; the search is finished"]


@PACKAGES
def test_internals_are_said_only_if_asked(package, capsys):
    lottery = search(verbose=2)
    fit(compiled(package), lottery, validation_split=0.0)
    lines = capsys.readouterr().out.splitlines()
    assert [("; restored 4 weights, 0 statistics" in line) for line in lines] == [True, True, False]
    assert f"level 0 ended with loss {lottery.results.loss[0]:.4f};" in lines[0]
    fit(compiled(package), search(verbose=0))
    assert capsys.readouterr().out == ""


@PACKAGES
@pytest.mark.parametrize("verbose", [1, 2])
def test_the_bar_shows_no_level_and_everything_else_has_it(package, verbose, capsys, tmp_path):
    lottery = search()
    table = keras_of(package).callbacks.CSVLogger(str(tmp_path / "log.csv"))
    history = fit(compiled(package), lottery, table, verbose=verbose)
    shown = capsys.readouterr().out
    assert "level:" not in shown and "e+00" not in shown
    assert re.findall(r"density: ([\d.]+)", shown) == ["1.0000", "0.5000", "0.2500"]
    assert history.history["level"] == [0, 1, 2]
    with open(tmp_path / "log.csv") as file:
        assert [row["level"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    assert "on_epoch_end" not in vars(history)
