"""`lth.plot` and its like: the numbers drawn are those of the results, into the axes given."""

import subprocess
import sys

import either
import matplotlib
import numpy as np
import pytest
import workdirs
from either import PACKAGES

import lth_keras as lth
from lth_keras.api.run import FinishedRun
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config

matplotlib.use("agg")
CONFIG = Config(preset="p", network="lenet_300_100", dataset="d", steps=3000, rounds=2)


@pytest.fixture(autouse=True)
def closed():
    yield
    from matplotlib import pyplot
    pyplot.close("all")


def searched(package="keras", seed=0, **options):
    lottery = either.search(epochs_per_round=2, seed=seed)
    either.fit(either.compiled(package), lottery, **options)
    return lottery


def line(axes, place=0):
    """The points of a line that is drawn with bars."""
    return axes.containers[place][0].get_xdata(), axes.containers[place][0].get_ydata()


@PACKAGES
@pytest.mark.parametrize("y", ["val_accuracy", "early_stop_step", "val_loss_min", "loss"])
def test_the_points_are_the_callbacks_results(package, y):
    from matplotlib import pyplot
    lottery = searched(package)
    figure, (left, right) = pyplot.subplots(1, 2)
    assert lottery.plot(ax=right, y=y) is right
    assert not left.containers and pyplot.get_fignums() == [figure.number]
    densities, values = line(right)
    assert densities.tolist() == pytest.approx([100, 50, 25], abs=0.5)
    assert values.tolist() == pytest.approx(lottery.results[y].tolist())
    assert right.get_xlabel() == "weights remaining (%)" and right.get_ylabel()


def test_by_itself_it_draws_what_the_best_level_goes_by():
    lottery = searched()
    axes = lottery.plot()
    assert axes.get_ylabel() == "validation accuracy at the end"
    assert line(axes)[1].tolist() == pytest.approx(lottery.results.val_accuracy.tolist())
    without = searched(validation_split=0.0)
    assert without.plot().get_ylabel() == "loss"


def test_fits_of_several_seeds_are_replicates_of_one_line():
    fits = [searched(seed=seed) for seed in range(2)]
    axes = lth.plot(fits, y="val_loss")
    assert len(axes.containers) == 1
    assert line(axes)[1].tolist() == pytest.approx(
        np.mean([each.results.val_loss for each in fits], axis=0).tolist())


def test_a_run_is_drawn_with_its_controls_and_from_its_folder(tmp_path):
    workdirs.fill(tmp_path / "w", CONFIG)
    run = FinishedRun(CONFIG, tmp_path / "w")
    axes = run.plot(y="early_stop_step")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "ticket", "re-initialised"]
    for place, branch in enumerate(("ticket", "reinit")):
        rows = run.results[(run.results.branch == branch) | (run.results.level == 0)]
        assert line(axes, place)[1].tolist() == pytest.approx(
            rows.groupby("level").early_stop_step.mean().tolist())
    again = lth.plot(str(tmp_path / "w"), y="early_stop_step", branches=["ticket"])
    assert line(again)[1].tolist() == line(axes)[1].tolist() and len(again.containers) == 1


def test_curves_have_a_line_for_each_level():
    axes = lth.plot_curves(searched())
    assert axes.get_ylabel() == "validation accuracy" and len(axes.get_lines()) == 3


def test_a_figure_of_the_paper_is_that_of_the_report(tmp_path):
    workdirs.fill(tmp_path / "w", CONFIG)
    figure = lth.paper_figure(4, tmp_path / "w")
    assert len(figure.axes) == 4 and "After figure 4" in figure.get_suptitle()


@pytest.mark.parametrize(("call", "says"), [
    (lambda root: either.search().plot(), "at least one trained level"),
    (lambda root: lth.plot(root, y="acuracy"), "y must be a column .*early_stop_step.*'acuracy'"),
    (lambda root: lth.plot(root, branches=["rienit"]), "ticket, reinit. Received: 'rienit'"),
    (lambda root: lth.plot(7), "source must be .*Received: int"),
    (lambda root: lth.plot_curves(root, y="loss"), "y must be of val_accuracy, val_loss"),
    (lambda root: lth.paper_figure(2, root), "one of 1, 3, 4, 5, 6, 7, 8. Received: 2"),
    (lambda root: lth.paper_figure(7, root), "it needs a run of vgg19")])
def test_what_cannot_be_drawn_is_an_error_that_says_what_can(call, says, tmp_path):
    workdirs.fill(tmp_path / "w", CONFIG)
    with pytest.raises(LotteryError, match=f"(?s){says}"):
        call(tmp_path / "w")


def test_matplotlib_is_loaded_only_to_draw():
    program = ("import sys, lth_keras as lth; lth.plot, lth.run, lth.LotteryTicketCallback\n"
               "print('matplotlib.pyplot' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          check=True)
    assert done.stdout.strip() == "False"
