"""The catalogue of fits: optimizers, data, callbacks, loops and devices, each tried for real."""

import contextlib
import functools
import pathlib
import tempfile

import compat_filters
import devices
import fits
import networks
import numpy as np
import pytest
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from compat import Case
from networks import BATCH, compiled, lottery, Spy, STEPS, X, Y

import lth_keras as lth
from lth_keras.errors import DivergedError, LotteryError

callbacks = keras.callbacks
sparsity = tfmot.sparsity.keras
STOCK_EPOCHS = 6


class Pruning(sparsity.UpdatePruningStep):
    """tfmot's callback, with the number of epochs that its test takes."""

    epochs = STOCK_EPOCHS


def stock_wrapped(model):
    """A model that tfmot prunes to a half within the first twelve steps."""
    return sparsity.prune_low_magnitude(model, pruning_schedule=sparsity.PolynomialDecay(
        0.0, 0.5, 0, 3 * STEPS, frequency=1))


def search(run, optimizer="adam", find=None, **options):
    """A search of two rounds of two epochs: its invariants and counts; `find` looks at both."""
    keras.utils.set_random_seed(0)
    model = compiled(lth.prune_low_magnitude(networks.mlp()), optimizer, **options)
    search_ = lottery(fraction=0.5)
    run(model, search_)
    assert search_.results.density.tolist() == [1.0, 0.5, 0.25]
    assert networks.strays(model) == 0
    assert all(np.isfinite(weight).all() for weight in fits.numbers(model))
    if find:
        find(model, search_)


def stock(run, optimizer="adam", find=None, **options):
    """tfmot's pruning to a half, which is what its masks must then have."""
    keras.utils.set_random_seed(0)
    model = compiled(stock_wrapped(networks.mlp()), optimizer, **options)
    pruning = Pruning()
    run(model, pruning)
    assert [mask.mean() for mask in networks.masks(model)] == [0.5, 0.5]
    assert all(np.isfinite(weight).all() for weight in fits.numbers(model))
    if find:
        find(model, pruning)


def both(title, run, **options):
    """A case that both are to do alike."""
    def with_optimizer(kind):
        made = dict(options)
        if "optimizer" in made:
            made["optimizer"] = made["optimizer"]()
        kind(run, **made)
    return Case(title, lambda: with_optimizer(search), lambda: with_optimizer(stock))


def fit(*others, data=(X, Y), **options):
    """A function that fits a model with a search or a pruning, and others after it."""
    def run(model, pruning):
        model.fit(*data, **{"batch_size": BATCH, "epochs": pruning.epochs, "verbose": 0,
                            "shuffle": False, "callbacks": [pruning, *others], **options})
    return run


# Optimizers.


def zero_after_every_step(wrap, others):
    keras.utils.set_random_seed(0)
    for optimizer in ("adam", "nesterov", "averaged", "legacy_adam"):
        model, spy = compiled(wrap(networks.mlp()), networks.OPTIMIZERS[optimizer]()), Spy()
        pruning = others()
        networks.fit(model, pruning, spy, epochs=STOCK_EPOCHS)
        assert {state.strays for state in spy.after} == {0}, "pruned weights that are not zero"


def clipped_alone(clipping, wrap, fitted_with=lambda: ()):
    keras.utils.set_random_seed(0)
    fits.survivors_train_alone(lambda: fits.OPTIMIZERS["Adam"](**fits.CLIPPING[clipping]),
                               wrap=wrap, fitted_with=fitted_with())


def idle_stock(model):
    """tfmot's wrappers with a schedule that never prunes: the masks are given."""
    return sparsity.prune_low_magnitude(model, pruning_schedule=sparsity.ConstantSparsity(
        0.5, begin_step=10**6))


def clipping_case(name):
    return Case(f"{name} sees the gradients of survivors alone",
                functools.partial(clipped_alone, name, lth.prune_low_magnitude),
                functools.partial(clipped_alone, name, idle_stock,
                                  lambda: [sparsity.UpdatePruningStep()]))


def adafactor():
    """A dense network with an input that is always zero and a dead unit diverges, and ours."""
    keras.utils.set_random_seed(0)
    dense = networks.mlp()
    dense.layers[0].bias.assign([-100.0] + [0.0] * 7)
    dense.compile(keras.optimizers.Adafactor(0.01), "mse")
    inputs = X * [0, 1, 1, 1, 1, 1]
    dense.fit(inputs, Y, batch_size=BATCH, verbose=0)
    assert np.isnan(dense.layers[0].kernel.numpy()).any()
    with pytest.raises(DivergedError, match="a loss of nan"):
        search(fit(), fits.OPTIMIZERS["Adafactor"]())


def rewound(name):
    keras.utils.set_random_seed(0)
    model, fresh = fits.searched_and_fresh(fits.EVERY[name], run_eagerly=True)
    fits.assert_same_bits(fits.numbers(model), fits.numbers(fresh))


# Callbacks.


def either_order(make):
    """A function that fits with other callbacks listed after, and then before."""
    def run(model, pruning):
        start = model.get_weights()
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            networks.record_summaries(patch)
            others = make(pathlib.Path(folder))
            fit(callbacks=[*others, pruning], validation_data=(X, Y))(model, pruning)
            model.set_weights(start)
            fit(*make(pathlib.Path(folder) / "again"), validation_data=(X, Y))(model, pruning)
    return run


BESIDE = {
    "ModelCheckpoint, best": lambda folder: [callbacks.ModelCheckpoint(
        f"{folder}/best.keras", save_best_only=True)],
    "ModelCheckpoint, every 3 batches": lambda folder: [callbacks.ModelCheckpoint(
        f"{folder}/{{epoch}}.weights.h5", save_freq=3, save_weights_only=True)],
    "CSVLogger": lambda folder: [callbacks.CSVLogger(f"{folder}.csv")],
    "TensorBoard": lambda folder: [callbacks.TensorBoard(f"{folder}/logs", write_graph=False)],
    "EarlyStopping": lambda folder: [callbacks.EarlyStopping("loss", patience=99)],
    "ReduceLROnPlateau": lambda folder: [callbacks.ReduceLROnPlateau("loss", patience=1)],
    "LearningRateScheduler": lambda folder: [callbacks.LearningRateScheduler(
        lambda epoch: 0.01 / (epoch + 1))],
    "TerminateOnNaN": lambda folder: [callbacks.TerminateOnNaN()],
    "BackupAndRestore": lambda folder: [callbacks.BackupAndRestore(f"{folder}/backup")],
    "LambdaCallback": lambda folder: [callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: None)],
}


def every_file_is_sparse(kind, ending, custom):
    def run(model, pruning):
        with tempfile.TemporaryDirectory() as folder:
            save = callbacks.ModelCheckpoint(f"{folder}/{{epoch}}_{{batch}}{ending}", save_freq=7)
            fit(callbacks=[save, pruning])(model, pruning)
            paths = sorted(pathlib.Path(folder).iterdir())
            assert len(paths) == pruning.epochs * STEPS // 7
            for path in paths:
                with custom():
                    loaded = keras.models.load_model(path)
                assert networks.strays(loaded) == 0, "pruned weights in a file that are not zero"
    kind(run)


def file_case(ending):
    return Case(f"{ending} file at any batch is sparse, and loads",
                lambda: every_file_is_sparse(search, ending, contextlib.nullcontext),
                lambda: every_file_is_sparse(stock, ending, sparsity.prune_scope))


def early_stopping_of_rounds():
    stop = callbacks.EarlyStopping("loss", min_delta=1e9, patience=1, restore_best_weights=True)
    model, search_ = compiled(), lottery(epochs_per_round=4, round_callbacks=[stop])
    networks.fit(model, search_)
    assert search_.results.epochs.tolist() == [2, 2, 2] and networks.strays(model) == 0


def interrupted_backup():
    def stop(batch, logs):
        raise KeyboardInterrupt
    with tempfile.TemporaryDirectory() as folder:
        for other in (callbacks.LambdaCallback(on_train_batch_end=stop), callbacks.Callback()):
            search_ = lottery()
            backup = callbacks.BackupAndRestore(f"{folder}/backup", save_freq=1)
            with pytest.raises((KeyboardInterrupt, LotteryError)) as caught:
                fit(backup, other)(compiled(), search_)
    assert "cannot be resumed from a backup" in str(caught.value)


# Divergence, steps an execution, loops, devices.


def diverged():
    search_ = lottery()
    with pytest.raises(DivergedError, match="at level 0"):
        fit()(compiled(optimizer=keras.optimizers.SGD(1e30)), search_)
    assert search_.results.diverged.tolist() == [True]


def unknown_length(execution):
    keras.utils.set_random_seed(0)
    data = fits.dataset().filter(lambda *_: True)
    dense = networks.mlp()
    dense.compile("adam", "mse", steps_per_execution=execution)
    for model, others in ((dense, []), (compiled(steps_per_execution=execution), [lottery()])):
        with pytest.raises(ValueError, match="you must specify the number of steps"):
            model.fit(data, epochs=6, callbacks=others, verbose=0)


def by_hand(way):
    keras.utils.set_random_seed(0)
    model, optimizer = lth.prune_low_magnitude(networks.mlp()), keras.optimizers.Adam(0.01)
    model.compile(optimizer)
    search_ = lth.Search(model, fraction=0.5, check=True)
    epoch = fits.loop(model, optimizer, way)
    for _ in range(2):
        epoch()
        search_.prune_and_rewind()
    epoch()
    assert search_.density == 0.25


def by_hand_stock(way):
    """The loop of tfmot's guide, in which the callback counts the steps."""
    keras.utils.set_random_seed(0)
    model, optimizer = stock_wrapped(networks.mlp()), keras.optimizers.Adam(0.01)
    pruning = Pruning()
    pruning.set_model(model)
    pruning.on_train_begin()
    epoch = fits.loop(model, optimizer, way, lambda: pruning.on_train_batch_begin(-1),
                      lambda *_: None)
    for number in range(STOCK_EPOCHS):
        epoch()
        pruning.on_epoch_end(number)
    assert [mask.mean() for mask in networks.masks(model)] == [0.5, 0.5]


def on_devices(strategy, optimizer):
    with tempfile.TemporaryDirectory() as folder:
        devices.compare(strategy, optimizer, pathlib.Path(folder))


def device_case(title, strategy, optimizer):
    return Case(title, functools.partial(on_devices, strategy, optimizer),
                functools.partial(on_devices, strategy, "stock"))


def subclassed_case(strategy):
    return Case(f"a subclassed model, two replicas ({strategy}): masks of one",
                functools.partial(on_devices, strategy, devices.SUBCLASSED),
                lambda: stock_wrapped(devices.built_subclassed()))


_LABELS = np.arange(len(X)) % 2
CASES = {
    **{f"optimizer.{name}": both(name, fit(), optimizer=make) for name, make in fits.EVERY.items()},
    "optimizer.Adafactor": Case(
        "Adafactor", adafactor, both("", fit(), optimizer=fits.OPTIMIZERS["Adafactor"]).stock,
        "works until a unit and an input have lost all their weights: Keras' Adafactor then gives "
        "NaN, for a dense model too, and the search says so"),
    "zero": Case("pruned weights are exactly zero after every step of an optimizer",
                 lambda: zero_after_every_step(
                     lambda model: networks.draw_masks(lth.prune_low_magnitude(model)),
                     callbacks.Callback),
                 lambda: zero_after_every_step(stock_wrapped, sparsity.UpdatePruningStep)),
    **{f"alone.{name}": clipping_case(name) for name in fits.CLIPPING},
    **{f"rewound.{name}": Case(f"{name}: a rewound round has the bits of a fresh training",
                               functools.partial(rewound, name), None)
       for name in ("SGD, momentum", "Adam, amsgrad", "Nadam", "legacy Adam",
                    "warm-up of one's own", "average of weights (use_ema)",
                    "loss scaling, dynamic")},
    **{f"data.{name}": both(name, run) for name, run in fits.INPUTS.items()},
    "class_weight": both("class_weight", fit(data=(X, _LABELS), class_weight={0: 2.0, 1: 0.5}),
                         loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
    "validation_split": both("validation_split", fit(validation_split=0.25)),
    "validation_freq": both("validation_freq, a dataset", fit(
        validation_data=fits.dataset(), validation_freq=2)),
    "eager": both("run_eagerly", fit(), run_eagerly=True),
    "xla": both("jit_compile", fit(), jit=True),
    "execution": both("steps_per_execution", fit(), steps_per_execution=2),
    "long_execution": both("steps_per_execution, more than an epoch has", fit(),
                           steps_per_execution=9),
    "auto_execution": both("steps_per_execution='auto'", fit(), steps_per_execution="auto"),
    "unknown_execution": Case(
        "steps_per_execution, tf.data of unknown length",
        functools.partial(unknown_length, 2), functools.partial(
            stock, fits.INPUTS["tf.data of unknown length"],
            steps_per_execution=2),
        "refused by Keras, for a dense model too: it must be told the steps"),
    "initial_epoch": both("initial_epoch", lambda model, pruning: fit(
        initial_epoch=3, epochs=3 + pruning.epochs)(model, pruning)),
    **{f"beside.{name}": both(f"{name}, listed before or after", either_order(make))
       for name, make in BESIDE.items()},
    **{f"file{ending}": file_case(ending) for ending in (".keras", ".h5")},
    **{f"filters.{name}": Case(f"whole filters: {title}",
                               functools.partial(compat_filters.works, keras, name), None)
       for name, title in compat_filters.TITLES.items()},
    "early_stopping": Case("EarlyStopping with the best weights, of each round",
                           early_stopping_of_rounds, None),
    "interrupted": Case("BackupAndRestore after an interrupted fit", interrupted_backup, None,
                        "refused: a backup has neither theta_k nor the level"),
    "diverged": Case("a round that diverges is an error, recorded, and no ticket", diverged, None),
    **{f"loop.{way}": Case(f"a GradientTape loop, {way}", functools.partial(by_hand, way),
                           functools.partial(by_hand_stock, way)) for way in fits.WAYS},
    **{f"mirrored.{name}": device_case(f"MirroredStrategy, two devices, {name}: masks of one",
                                       "mirrored", name) for name in devices.OPTIMIZERS},
    **{f"workers.{name}": device_case(f"MultiWorkerMirroredStrategy, two processes, {name}: masks "
                                      "of one", "workers", name) for name in devices.OPTIMIZERS},
    **{f"{name}.subclassed": subclassed_case(name) for name in devices.STRATEGIES},
}
