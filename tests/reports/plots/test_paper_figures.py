import itertools
import pathlib

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lth_keras.controls import control as controls
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.results.record import COLUMNS
from lth_keras.experiments.results.runs import Run
from lth_keras.reports.plots import drawing, panels, paper_figures, styles
from lth_keras.reports.plots.paper_figures import FIGURES

DENSITIES = (1.0, 0.513, 0.211, 0.07)


def run(network, label=None, *, branches=("ticket", "reinit"), levels=4, replicates=2, shift=0,
        measured=(), **settings):
    """A run of made-up results; the early-stop step and accuracies differ everywhere."""
    config = Config(preset=label or network, network=network, dataset="d", steps=30_000,
                    measured_steps=tuple(measured), **settings)
    results, curves = [], []
    for number, (replicate, level, branch) in enumerate(itertools.product(
            range(replicates), range(levels), branches)):
        if branch != "ticket" and not level:
            continue
        key = {"replicate": replicate, "branch": branch, "branch_index": 0, "level": level}
        results.append(dict.fromkeys(COLUMNS) | key | {
            "density": DENSITIES[level], "early_stop_step": 1000.0 + 10 * number + shift,
            "val_loss_min": 0.1, "test_accuracy_early_stop": 0.9 + number / 1000,
            "test_accuracy_final": 0.8 + number / 1000,
            "train_accuracy_final": 0.95 + number / 1000, "seconds": 1.0} | {
                f"test_accuracy_step_{step}": 0.5 + number / 1000 + step / 1e6
                for step in measured})
        curves += [key | {"step": step, "val_accuracy": 0.7 + step / 1e6 + number / 1000}
                   for step in (10_000, 15_000, 20_000, 30_000)]
    found = Run(pathlib.Path("w"), config, pd.DataFrame(results), label or network)
    found.__dict__["curves"] = pd.DataFrame(curves)
    return found


def means(run, branch, measure):
    """Densities in percent and means, from the frame itself; a control begins at dense."""
    rows = run.results[run.results.branch.isin((branch, "ticket"))]
    rows = rows[(rows.branch == branch) | (rows.level == 0)]
    found = rows.groupby("level")[["density", measure]].mean()
    return found.density.to_numpy() * 100, found[measure].to_numpy()


def lines(axes):
    """Label -> (x, y) of what is drawn."""
    return {label: (handle[0] if isinstance(handle, tuple) else handle).get_data()
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}


def check(axes, label, run, branch, measure):
    np.testing.assert_allclose(lines(axes)[label], means(run, branch, measure))


MEASURES = ("early_stop_step", "test_accuracy_early_stop", "test_accuracy_final",
            "train_accuracy_final")


def test_figure_1_is_tickets_and_random_masks_of_every_run_that_has_them():
    lenet = run("lenet_300_100", branches=("ticket", "random_mask"))
    conv, without = run("conv2", branches=("ticket", "random_mask"), shift=500), run("conv4")
    drawn = FIGURES[1].draw([lenet, without, conv])
    for axes, measure in zip(drawn.axes, MEASURES[:2], strict=True):
        assert len(lines(axes)) == 4
        for found in (lenet, conv):
            check(axes, f"{found.label}: ticket", found, "ticket", measure)
            check(axes, f"{found.label}: random mask", found, "random_mask", measure)


def test_figure_3_is_learning_curves_by_density():
    lenet = run("lenet_300_100")
    denser, sparser, compared = FIGURES[3].draw([lenet]).axes
    assert list(lines(denser)) == ["100.0%", "51.3%", "21.1%"]
    assert list(lines(sparser)) == ["100.0%", "7.0%"]
    assert list(lines(compared)) == ["100.0%", "51.3%", "21.1%", "51.3% re-initialised",
                                     "21.1% re-initialised"]
    of = lenet.curves[(lenet.curves.branch == "reinit") & (lenet.curves.level == 2)
                      & (lenet.curves.step <= 15_000)].groupby("step").val_accuracy.mean()
    np.testing.assert_allclose(lines(compared)["21.1% re-initialised"],
                               (of.index, of.to_numpy()))
    assert denser.get_ylabel() == "validation accuracy"


def test_figure_3_does_without_panels_that_would_be_empty():
    drawn = FIGURES[3].draw([run("lenet_300_100", branches=("ticket",), levels=2)])
    assert [axes.get_title() for axes in drawn.axes] == ["denser tickets"]


def test_scores_at_initialisation_are_not_drawn_as_one_shot_pruning():
    runs = [run("lenet_300_100", name, strategy=name) for name in ("iterative", "snip")]
    assert len(FIGURES[4].draw(runs).axes) == 4


def test_figure_4_has_four_measures_and_one_shot_for_itself():
    iterative = run("lenet_300_100", "iterative")
    one_shot = run("lenet_300_100", "once", strategy="one_shot", shift=300)
    alone = FIGURES[4].draw([iterative])
    assert len(alone.axes) == 4
    for axes, measure in zip(alone.axes, MEASURES, strict=True):
        check(axes, "ticket", iterative, "ticket", measure)
        check(axes, "re-initialised", iterative, "reinit", measure)
    both = FIGURES[4].draw([iterative, one_shot])
    assert len(both.axes) == 6
    for axes, measure in zip(both.axes, (*MEASURES, *MEASURES[:2]), strict=True):
        check(axes, "once: re-initialised", one_shot, "reinit", measure)
    assert [axes.get_title() for axes in both.axes[4:]] == ["one-shot pruning"] * 2
    assert not any("iterative" in label for axes in both.axes[4:] for label in lines(axes))


def test_figures_5_and_6_are_of_convolutional_networks_without_and_with_dropout():
    plain, dropped = run("conv2"), run("conv2", "conv2_dropout", dropout=0.5, shift=700)
    other = run("conv6")
    given = [plain, dropped, other]
    for axes, measure in zip(FIGURES[5].draw(given).axes, MEASURES, strict=True):
        assert len(lines(axes)) == 4
        check(axes, "conv6: re-initialised", other, "reinit", measure)
    for axes, measure in zip(FIGURES[6].draw(given).axes, MEASURES[:2], strict=True):
        assert len(lines(axes)) == 2  # conv6 has no run with dropout to compare it with.
        check(axes, "conv2: ticket", plain, "ticket", measure)
        check(axes, "conv2_dropout: ticket", dropped, "ticket", measure)
        looks = [handle[0].get_linestyle() for handle in axes.get_legend_handles_labels()[0]]
        assert looks == ["--", "-"]
    assert FIGURES[6].lacks([plain, other]) and not FIGURES[6].lacks([dropped])


@pytest.mark.parametrize("number, network", [(7, "vgg19"), (8, "resnet18")])
def test_figures_7_and_8_are_test_accuracy_at_steps_by_learning_rate(number, network):
    high = run(network, "high", optimizer="sgd", learning_rate=0.1, measured=(10_000, 20_000))
    warm = run(network, "warm", optimizer="sgd", learning_rate=0.03, warmup_steps=20_000)
    first, second, last = FIGURES[number].draw([high, warm]).axes
    assert [axes.get_title() for axes in (first, second, last)] == [
        "step 10,000", "step 20,000", "step 30,000"]
    check(first, "high, rate 0.1: ticket", high, "ticket", "test_accuracy_step_10000")
    check(second, "high, rate 0.1: re-initialised", high, "reinit", "test_accuracy_step_20000")
    check(last, "warm, rate 0.03, warm-up 20,000 steps: ticket", warm, "ticket",
          "test_accuracy_final")
    assert len(lines(first)) == 2 and len(lines(last)) == 4


def test_a_title_is_no_wider_than_its_figure():
    runs = [run("n", f"a_preset_of_a_long_name_{number}") for number in range(8)]
    drawn = panels.summary_figure([*runs[1:], Run(
        runs[0].root, runs[0].config.scaled(0.5), runs[0].results, runs[0].label)])
    FigureCanvasAgg(drawn)
    title, = drawn.texts
    assert title.get_text().count("\n") > 1
    assert title.get_window_extent().width < drawn.bbox.width


@pytest.mark.parametrize("number", FIGURES)
def test_a_figure_says_what_it_needs_and_is_left_out_without_it(number):
    others = [run("n"), run("conv4", levels=1, dropout=0.5), *(
        run(network, levels=1) for network in ("lenet_300_100", "conv2", "vgg19", "resnet18"))]
    why = FIGURES[number].lacks(others)
    assert why.startswith(f"Figure {number} is left out: it needs a run ") and "\n" not in why
    assert FIGURES[number].lacks([])


@pytest.mark.parametrize("number, network, settings", [
    (1, "n", {"branches": ("ticket", "random_mask")}), (3, "lenet_300_100", {}),
    (4, "lenet_300_100", {}), (5, "conv2", {}), (6, "conv4", {"dropout": 0.5}), (7, "vgg19", {}),
    (8, "resnet18", {})])
def test_every_figure_draws_and_its_title_says_of_what(number, network, settings):
    found = run(network, **settings)
    assert FIGURES[number].lacks([found]) == ""
    scaled = Run(found.root, found.config.scaled(0.1), found.results, found.label)
    scaled.__dict__["curves"] = found.curves
    drawn = FIGURES[number].draw([scaled])
    said = drawn.get_suptitle()
    assert said.startswith(f"After figure {number}: ")
    assert "3,000 steps, mean of 2 replicates" in said
    changed = "" if network == "n" else ", dataset d"  # "n" is no preset.
    changed += ", dropout 0.5" if settings.get("dropout") else ""
    assert said.endswith(f"scale 0.1{changed}")
    drawn.set_dpi(20)
    assert drawing.png(drawn).startswith(b"\x89PNG")


def test_the_summary_has_every_branch():
    branches = ("ticket", "constant", "noise_1")
    found = run("n", branches=branches)
    for axes, measure in zip(panels.summary_figure([found]).axes, MEASURES[:2], strict=True):
        for branch in branches:
            check(axes, styles.title(branch), found, branch, measure)


def test_a_figure_in_words_gives_where_each_line_begins_and_ends():
    text = panels.describe(panels.summary_figure([run("n", branches=("ticket",), replicates=1)]))
    assert text == ("early-stop step against weights remaining (%): ticket from 1,000 to 1,030. "
                    "test accuracy at early stop against weights remaining (%): "
                    "ticket from 90.00% to 90.30%.")


def test_every_control_has_a_look_of_its_own():
    looks = [styles.style(name) for name in ("ticket", *controls.CONTROLS)]
    assert len({(look["color"], look["marker"]) for look in looks}) == len(looks)
    assert len({look["label"] for look in looks}) == len(looks)
    assert looks[0]["linestyle"] == "-" and all(look["linestyle"] != "-" for look in looks[1:])


def test_a_control_that_is_registered_is_drawn_under_its_title(monkeypatch):
    monkeypatch.setattr(controls, "CONTROLS", dict(controls.CONTROLS))
    monkeypatch.setattr(styles, "CONTROLS", controls.CONTROLS)
    controls.register("mine", "of my own", drawn=False)(lambda *arguments: None)
    assert styles.style("mine")["label"] == "of my own"
    assert styles.style("mine")["marker"] != styles.style("no control any more")["marker"] == "x"


def test_bars_of_equal_values_are_none_though_their_mean_is_off_them_in_the_last_bit():
    found = run("n", branches=("ticket",), replicates=3)
    found.results["test_accuracy_final"] = 0.9995
    assert found.results.groupby("level").test_accuracy_final.mean()[0] <= 0.9995
    drawing.against_density(Figure().subplots(), found.results, "test_accuracy_final")


def test_a_figure_of_the_paper_can_be_added(monkeypatch):
    monkeypatch.setattr(paper_figures, "FIGURES", dict(FIGURES))
    paper_figures.register(9, "nothing", "a run of n", lambda runs: [
        found for found in runs if found.config.network == "n"])(lambda runs: Figure())
    assert paper_figures.FIGURES[9].lacks([run("conv2")])
    drawn = paper_figures.FIGURES[9].draw([run("n")])
    assert drawn.get_suptitle().startswith("After figure 9: nothing")


def test_many_runs_of_a_figure_have_a_colour_each():
    looks = [styles.run_style(place, str(place), "ticket")["color"] for place in range(21)]
    assert looks[:7] == [*styles.COLOURS]
    assert len(set(looks)) == 21


def test_things_of_a_kind_beyond_the_colours_are_dashed():
    looks = [styles.series_style(place, str(place)) for place in range(11)]
    assert len({(look["color"], look["linestyle"]) for look in looks}) == len(looks)
    assert len({look["marker"] for look in looks}) == len(looks)


def test_densities_are_written_as_in_the_paper():
    axes = Figure().add_subplot()
    drawing.density_axis(axes, np.array([100, 51.28, 13.46, 6.95, 0.891]))
    write = axes.xaxis.get_major_formatter()
    assert [write(value) for value in axes.get_xticks()] == ["100", "51.3", "13.5", "7.0", "0.891"]


def test_runs_of_different_ladders_share_an_axis_whose_ticks_do_not_collide():
    axes = Figure().add_subplot()
    for count in (13, 4):
        drawing.density_axis(axes, 100 * 0.8 ** np.arange(count))
    ticks = axes.get_xticks()
    left, right = axes.get_xlim()
    assert max(ticks) == 100 and min(ticks) < 12 and left > 100 and right < 7
    gaps = np.diff(np.log(sorted(ticks))) / np.log(left / right)
    assert gaps.min() > 0.08


def test_an_axis_holds_its_levels_alone_though_lines_were_drawn_on_a_log_scale_before():
    axes = Figure().add_subplot()
    percents = 100 * 0.8 ** np.arange(1, 23)
    axes.plot(percents, percents)
    axes.set_xscale("log")
    drawing.density_axis(axes, percents, most=6)
    left, right = axes.get_xlim()
    assert 80 < left < 100 and 0.5 < right < percents[-1]
    assert set(axes.get_xticks()) <= set(percents)
