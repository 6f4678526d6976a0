"""What a search in `fit` is judged by: one metric, in the callback, the report and the pictures."""

import dataclasses

import pytest
from matplotlib.figure import Figure

from lth_keras.experiments.results import fits, runs
from lth_keras.experiments.results.fits import Fit
from lth_keras.experiments.results.statistics import quality
from lth_keras.reports import report, tables
from lth_keras.reports.plots import panels
from lth_keras.search.fit.round_record import gains, Round


def searched(metrics, worth=lambda metric, level, epoch: 0.5 + (10 * level + epoch) / 100):
    """A search of two levels of two epochs, in which the metrics have values that differ."""
    rows, history = [], {"level": []}
    for level in range(2):
        record = Round(level, 0.5 ** level)
        for epoch in range(2):
            logs = {name: worth(name, level, epoch) for name in metrics}
            record.steps += 10
            record.end_epoch(logs)
            for name, value in {"level": level, **logs}.items():
                history.setdefault(name, []).append(value)
        rows.append(record.row())
    return Fit({"schedule": {"epochs_per_round": 2}}, rows, history)


def of_outputs(*names):
    return [f"val_{name}" for name in names] + ["loss", "val_loss", "val_a_loss", "val_b_loss"]


SETS = {
    "accuracy": ["loss", "accuracy", "val_loss", "val_accuracy"],
    "acc": ["val_acc", "val_loss", "acc"],
    "top5 before it": ["val_top5_acc", "val_accuracy", "val_loss", "top5_acc", "accuracy"],
    "of its own": ["val_my_accuracy", "my_accuracy", "val_loss"],
    "none": ["loss", "val_loss", "val_acceleration_loss", "val_acc_mae"],
    "two of none": ["val_a_acc", "val_b_acc", "a_acc", "b_acc", "val_loss"],
    "two outputs": of_outputs("a_accuracy", "b_accuracy"),
    "an accuracy of one output": of_outputs("a_accuracy", "b_mae"),
    "in percent": ["val_accuracy", "val_loss", "accuracy"]}
JUDGED = {"accuracy": "val_accuracy", "acc": "val_acc", "top5 before it": "val_accuracy",
          "of its own": "val_my_accuracy"}  # All others by the loss.


def fit_of(name):
    return searched(SETS[name], *[lambda metric, level, epoch: 93.0 - level if metric.endswith(
        "accuracy") else 0.5 + epoch / 9] if name == "in percent" else [])


@pytest.mark.parametrize("name", SETS)
def test_all_parts_go_by_the_same_metric(name):
    fit, judged = fit_of(name), JUDGED.get(name, "val_loss")
    found = gains(fit.rows)[1]
    assert found == (1 if judged in JUDGED.values() else -1) * (
        fit.rows[1][judged] - fit.rows[0][judged])
    column = "val_loss_min" if judged == "val_loss" else f"{judged}_early_stop"
    assert quality(fits.results(fit)).column == column
    curves = fits.curves(fit)
    for column, metric in (("val_accuracy", judged), ("accuracy", judged.removeprefix("val_"))):
        if judged == "val_loss":
            assert curves[column].isna().all()
        elif metric in fit.history:
            assert curves[column].tolist() == fit.history[metric]
    assert curves.val_loss.tolist() == fit.history["val_loss"]


@pytest.mark.parametrize(("name", "words"), [
    ("accuracy", "validation accuracy"), ("acc", "validation accuracy"),
    ("of its own", "validation my accuracy")])
def test_what_is_no_plain_accuracy_is_named(name, words):
    run, = runs.together([runs.of_fit(dataclasses.replace(
        fit_of(name), files={"start.safetensors": str(seed)})) for seed in range(6)])
    assert quality(run.results).title == f"{words} at early stop"
    assert f"{words} 60.00%, dense 50.00%; 6 searches" in run.verdict.sentence
    caption = tables.measured(run.results, "").caption
    assert words.replace("validation ", "; ") + " on the validation data" in caption
    assert panels.summary_figure([run]).axes[1].get_ylabel() == f"{words} at early stop"
    assert panels.curves_figure(run).axes[0].get_ylabel() == words
    axes = panels.curves_panel(Figure().subplots(), run, "ticket", "val_accuracy")
    assert axes.get_ylabel() == words
    assert f"fit: {words} over training" in [*report._pictures([run])][1].caption


def test_a_model_of_several_outputs_is_reported_by_its_loss():
    run = runs.of_fit(fit_of("two outputs"))
    assert [axes.get_ylabel() for axes in panels.summary_figure([run]).axes] == [
        "early-stop step", "least validation loss"]
    assert panels.curves_figure(run).axes[0].get_ylabel() == "validation loss"


@pytest.mark.parametrize(("name", "shares"), [("accuracy", True), ("in percent", False)])
def test_an_accuracy_in_percent_is_drawn_as_it_is(name, shares):
    run = runs.of_fit(fit_of(name))
    for measure in ("val_accuracy", "val_accuracy_early_stop"):
        axes = panels.compare(Figure().subplots(), [run], measure, ["ticket"])
        values = run.results[measure]
        low, high = axes.get_ylim()
        assert low < values.min() <= values.max() < high and (high <= 1.01) == shares
        ticks = axes.yaxis.get_major_formatter().format_ticks(axes.get_yticks())
        assert {text.endswith("%") for text in ticks} == {shares}
        assert axes.get_ylabel().startswith("validation accuracy at ")
