"""The page of presets: what each costs, and what a short run of it came to."""

import pathlib

import pandas as pd
import presets as listed  # studies/presets.py
import pytest

from lth_keras.experiments.config import presets

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("name", presets.PRESETS)
@pytest.mark.parametrize("steps", [20, 100, 300])
def test_every_preset_can_be_shortened_with_its_schedule(name, steps):
    config = presets.get(name)
    short = listed.shortened(config, steps)
    assert short.steps == steps and short.rounds == 1
    assert short.fraction == config.fraction and short.learning_rate == config.learning_rate
    drops = [round(steps * drop / config.steps) for drop in config.learning_rate_drops]
    assert list(short.learning_rate_drops) == pytest.approx(drops, abs=1)
    assert short.warmup_steps == pytest.approx(config.warmup_steps * steps / config.steps, abs=1)


@pytest.mark.thorough
def test_a_short_run_is_trained_pruned_and_kept_in_place_of_an_earlier_one(tmp_path):
    results = tmp_path / "presets.csv"
    trained = listed.train(presets.get("digits"), 4)
    for rows in (trained.assign(steps=3), trained):
        listed.keep(results, "digits", rows)
    kept = pd.read_csv(results)
    assert kept.steps.tolist() == [4, 4] and kept.level.tolist() == [0, 1]
    assert kept.weights.tolist() == [50_200, 40_260] and kept.pruned_not_zero.tolist() == [0, 0]
    other = kept.assign(preset="conv2")
    listed.keep(results, "conv2", other)
    assert pd.read_csv(results).preset.tolist() == ["digits"] * 2 + ["conv2"] * 2
    row, = (line for line in listed.page(results).splitlines() if line.startswith("| digits |"))
    assert "| 50,200 | 70 x 1,500 | 4 and 4 | 80.2% | " in row and row.endswith("| 0 |")


def test_the_page_has_every_preset_and_is_what_is_kept(tmp_path):
    assert listed.page(tmp_path / "none.csv").count("| - |") >= len(presets.PRESETS)
    page = (ROOT / "docs" / "presets.md").read_text()
    assert page == listed.page(ROOT / "studies" / "presets.csv")
    assert all(f"\n| {name} | " in page for name in presets.PRESETS)
