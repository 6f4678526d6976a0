import pathlib
import re

import numpy as np
import pandas as pd
import pytest
import strong  # studies/strong.py
import strong_page

from lth_keras.experiments.training.datasets import Data

ROOT = pathlib.Path(__file__).parents[2]


def test_the_page_is_written_from_what_is_kept():
    kept = ROOT / "studies" / "strong"
    assert (ROOT / "docs" / "strong.md").read_text() == strong_page.page(kept, strong.EXPERIMENTS)


@pytest.mark.thorough
def test_the_pages_program_runs(tmp_path, monkeypatch, capsys):
    program, = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "strong.md").read_text(),
                          re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "strong", "exec"), {"__name__": "document"})
    assert "output_error" in capsys.readouterr().out
    assert (tmp_path / "strong.ticket").exists()


def test_the_kept_figures_are_what_the_claims_say():
    kept = {name: pd.read_csv(ROOT / "studies" / "strong" / f"{name}.csv")
            for name in strong.EXPERIMENTS}
    width = kept["width"]
    for method, low, high in (("malach", -0.6, -0.4), ("product", -1.1, -0.9)):
        rows = width[(width.method == method) & (width.width >= 100)]
        assert low <= np.polyfit(np.log10(rows.width), np.log10(rows["median"]), 1)[0] <= high
    whole = kept["networks"]
    assert (whole.output_error <= whole.bound).all()


def test_pensias_experiment_runs_on_a_small_network(monkeypatch):
    draws = np.random.default_rng(0)
    x, y = draws.integers(0, 255, (40, 28, 28), np.uint8), np.arange(40, dtype=np.int32) % 10
    monkeypatch.setattr(strong.datasets, "load", lambda *given: Data(x, y, x, y, 10))
    monkeypatch.setitem(vars(strong), "mlp", lambda keras: keras.Sequential([
        keras.layers.Input((784,)), keras.layers.Dense(2, "relu", use_bias=False),
        keras.layers.Dense(10, use_bias=False)]))
    found = strong.pensia()
    assert found["target"]["weights"] == 784 * 2 + 20
    for name in ("own", "shared"):
        least = found[name]["least_count"]
        assert found[name]["share_within"][str(least)] == 1
        row = found[name][str(min(least, 21))]
        assert abs(row["accuracy"] - found["target"]["accuracy"]) <= 10
        assert row["drawn"] == min(least, 21) * found["target"]["weights"]
        assert (row["largest_error"] <= 0.01) == (least <= 21)
