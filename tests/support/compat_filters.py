"""Models whose whole filters are searched, saved, made smaller and exported, with either Keras."""

import pathlib
import tempfile
from typing import Any

import filters
import numpy as np

import lth_keras as lth
from lth_keras.files.engines import engine_of

TITLES = {"residual": "residual block, depthwise convolution", "unet": "U-Net",
          "inception": "Inception block", "transformer": "transformer block",
          "sequences": "Conv1D, LSTM and GRU", "volumes": "Conv3D",
          "generator": "transposed convolutions of a generator", "shared": "layer called twice",
          "nested": "model within a model"}


def works(keras: Any, name: str) -> None:
    """Two rounds in filters; the ticket, the wrapped and the smaller model from their files."""
    keras.utils.set_random_seed(0)
    ours = keras.__name__.startswith("tf_keras")
    build = filters.SMALL[name]
    model = build(keras)
    x = np.concatenate([filters.batch(model, seed) for seed in (0, 1)])
    y = np.random.default_rng(2).normal(size=_predict(model, x).shape).astype(np.float32)
    if ours:
        model = lth.prune_low_magnitude(model, structure="filters")
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    search = lth.LotteryTicketCallback(
        rounds=2, epochs_per_round=1, fraction=0.3, check=True, verbose=0,
        **({} if ours else {"structure": "filters"}))
    model.fit(x, y, batch_size=4, epochs=search.epochs, verbose=0, callbacks=[search])
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        _check_ticket(search.ticket, build(keras), root)
        # TF Lite has no kernel for MaxPool3D.
        _check_models(keras, model, x, y, root,
                      exported="saved_model" if name == "volumes" else "float32")


def _check_ticket(ticket: Any, fresh: Any, root: pathlib.Path) -> None:
    assert ticket.in_filters and ticket.level == 2 and 0.2 < ticket.density < 0.9
    ticket.save(root / "found.ticket")
    applied = lth.Ticket.load(root / "found.ticket").apply(fresh)
    masks = engine_of(applied).network(applied).masks()
    assert {*masks} == {*ticket.masks}
    for name, mask in ticket.masks.items():
        assert np.array_equal(masks[name], mask), name


def _check_models(keras: Any, model: Any, x: Any, y: Any, root: pathlib.Path, *,
                  exported: str) -> None:
    before, profile = _predict(model, x), lth.profile(model)
    model.save(root / "masked.keras")
    masked = keras.models.load_model(root / "masked.keras")
    _same(_predict(masked, x), before, "loaded with its masks")
    plain = lth.strip_pruning(masked) if keras.__name__.startswith("tf_keras") else masked
    smaller = lth.compact(plain)
    _same(_predict(smaller.model, x), before, "without its filters")
    costs = lth.profile(smaller.model)
    assert costs.macs == costs.macs_kept <= profile.macs_kept < profile.macs
    smaller.model.save(root / "smaller.keras")
    loaded = keras.models.load_model(root / "smaller.keras")
    _same(_predict(loaded, x), before, "without its filters, loaded")
    loaded.compile("sgd", "mse")
    loaded.fit(x, y, verbose=0)
    shipped = lth.export(plain, root / "shipped", data=(x, None), formats=[exported], repeats=5)
    row = shipped.rows.iloc[0]
    assert row.status == "shipped", row.reason
    assert row.max_error < 1e-3 * max(1.0, np.abs(before).max())


def _predict(model: Any, x: Any) -> Any:
    return np.asarray(model.predict(x, verbose=0))


def _same(one: Any, other: Any, what: str) -> None:
    error = np.abs(one - other).max()
    assert error < 2e-5 * max(1.0, np.abs(other).max()), f"{what}: predictions differ by {error}"
