import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from lth_keras import plots, report
from lth_keras.config import Config
from lth_keras.errors import WorkdirError
from lth_keras.store import Store, Training

CONFIG = Config(preset="p", network="n", dataset="d", steps=300)
DENSITIES = (1.0, 0.8, 0.51, 0.21)


def fill(root, replicates=2):
    store = Store(root, CONFIG)
    store.begin()
    for replicate in range(replicates):
        for level, density in enumerate(DENSITIES):
            for branch in ("ticket", "reinit") if level else ("ticket",):
                shift = 50 if branch == "reinit" else 0
                curve = pd.DataFrame({"step": [100, 200, 300], "loss": 0.1, "accuracy": 1.0,
                                      "val_loss": 0.2, "val_accuracy": [0.8, 0.9, 0.95]})
                store.finish(Training(replicate, level, branch), {
                    "density": density, "val_loss_min": 0.2, "seconds": 1.0,
                    "early_stop_step": 100 + 20 * replicate + shift,
                    "test_accuracy_early_stop": 0.9 + 0.01 * level - shift / 1000,
                    "test_accuracy_final": 0.9, "train_accuracy_final": 1.0}, curve)
    return root


def printed(root, width):
    stream = io.StringIO()
    report.show(root, Console(file=stream, width=width))
    return stream.getvalue()


def test_the_report_ends_in_table_pictures_and_verdict(tmp_path):
    text = printed(fill(tmp_path), 120)
    assert "p, 300 steps" in text
    rows = {line.split()[0]: line for line in text.splitlines()
            if line.split() and line.split()[0].isdigit()}
    assert rows["0"].split() == ["0", "100.0", "110", "[100,", "120]", "90.00"]
    assert rows["3"].split() == ["3", "21.0", "110", "[100,", "120]", "93.00", "160", "[150,",
                                 "170]", "88.00"]
    assert text.splitlines()[-1].startswith("Winning ticket at level 3 with 21.0%")
    for name in ("summary", "curves"):
        picture = tmp_path / "plots" / f"{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG") and str(picture) in text


def test_a_narrow_terminal_gets_means_alone_without_wrapping(tmp_path):
    text = printed(fill(tmp_path), 80)
    rows = [line for line in text.splitlines() if line.split() and line.split()[0].isdigit()]
    assert [len(row.split()) for row in rows] == [4, 6, 6, 6]
    assert "[" not in "".join(rows)


def test_lines_are_means_with_bars_from_least_to_greatest(tmp_path):
    from lth_keras import store
    axes = Figure().subplots()
    plots.against_density(axes, store.results(fill(tmp_path)), "early_stop_step")
    ticket, reinit = axes.containers
    np.testing.assert_allclose(ticket[0].get_xdata(), np.array(DENSITIES) * 100)
    np.testing.assert_allclose(ticket[0].get_ydata(), 110)
    bars = ticket[2][0].get_segments()
    np.testing.assert_allclose([sorted(bar[:, 1]) for bar in bars], [[100, 120]] * 4)
    # The control's line begins at the dense network.
    np.testing.assert_allclose(reinit[0].get_ydata(), [110, 160, 160, 160])


def test_density_runs_from_dense_to_sparse_on_a_log_axis(tmp_path):
    from lth_keras import store
    axes = Figure().subplots()
    plots.against_density(axes, store.results(fill(tmp_path)), "test_accuracy_early_stop")
    left, right = axes.get_xlim()
    assert axes.get_xscale() == "log" and left > 100 and right < 21


def test_learning_curves_are_those_of_the_papers_densities(tmp_path):
    from lth_keras import store
    axes = Figure().subplots()
    plots.learning_curves(axes, store.curves(fill(tmp_path)), store.results(tmp_path), "ticket")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["100.0%", "51.0%", "21.0%"]
    assert all(line.get_ydata().tolist() == [0.8, 0.9, 0.95] for line in axes.get_lines())


def test_one_replicate_is_said_to_be_one(tmp_path):
    text = printed(fill(tmp_path, replicates=1), 120)
    assert "one replicate; accuracy" in text and "it may be chance" in text


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe", b'{"preset": 3}'])
def test_a_folder_that_is_no_workdir_is_an_error_that_names_it(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(WorkdirError, match=str(tmp_path)):
        report.show(tmp_path, Console(file=io.StringIO()))


def test_a_workdir_without_results_is_an_error(tmp_path):
    Store(tmp_path, CONFIG).begin()
    with pytest.raises(WorkdirError, match="finished training"):
        report.show(tmp_path, Console(file=io.StringIO()))
