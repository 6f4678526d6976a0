"""The report of a search in `fit`, from memory and from its workdir."""

import json

import pandas as pd
import pytest
from networks import compiled
from resumed_fits import network, X, Y

import lth_keras as lth
from lth_keras.experiments.results import fits, runs


def searched(root=None, **options):
    model = compiled(network(), "adam")
    lottery = lth.LotteryTicketCallback(rounds=2, epochs_per_round=2, fraction=0.5, verbose=0,
                                        workdir=root)
    model.fit(X, Y, batch_size=8, epochs=lottery.epochs, callbacks=[lottery], verbose=0,
              **{"validation_data": (X[:8], Y[:8]), **options})
    return model, lottery


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("search")
    return root, *searched(root)


def test_the_workdir_has_the_callbacks_results_in_a_runs_columns(made):
    root, _, lottery = made
    found = fits.results(fits.read(root))
    own = [name for name in lottery.results if name in found and name != "seconds"]
    assert {"level", "density", "steps", "epochs", "early_stop_step", "val_loss_min"} < {*own}
    pd.testing.assert_frame_equal(found[own], lottery.results[own], check_dtype=False)
    for level, ticket in enumerate(lottery.tickets):
        assert fits.read_ticket(root, fits.read(root), level) == ticket
    assert fits.curves(fits.read(root)).level.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_page_from_memory_is_that_of_the_workdir(made, tmp_path):
    root, model, lottery = made
    page = lottery.report()
    assert page == root / "plots" / "report.html"
    assert {path.name for path in page.parent.iterdir()} >= {"summary.png", "curves.png",
                                                             "results.csv"}
    model.fit(X, Y, epochs=1, verbose=0)  # Whose history is not the search's.
    elsewhere = lottery.report(tmp_path / "out").read_text()
    read = runs.read(root)
    for line in (str(read.results.val_loss_min[2])[:5], "trains no re-initialised control",
                 *read.versions):
        assert line in elsewhere


def test_a_search_without_a_workdir_has_a_page_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, lottery = searched(validation_data=None)
    text = lottery.report().read_text()
    assert (tmp_path / "report" / "report.html").exists()
    assert "fit was given no validation_data" in text


def test_before_a_fit_there_is_no_report():
    lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1)
    with pytest.raises(lth.LotteryError, match="before its fit"):
        lottery.report()


def test_the_verdict_goes_by_the_margin_that_is_asked_for(made, tmp_path):
    _, _, lottery = made
    for margin in ({"steps": 0.5}, "steps:0.5"):
        page = lottery.report(tmp_path / "out", margin=margin)
        (verdict,) = json.loads((page.parent / "verdict.json").read_text()).values()
        assert verdict["margins"] == {"accuracy": 0.002, "steps": 0.5, "loss": 0.01}
    with pytest.raises(lth.LotteryError, match="A margin must be one of accuracy, steps, loss"):
        lottery.report(tmp_path / "none", margin={"speed": 0.5})
    assert not (tmp_path / "none").exists()
