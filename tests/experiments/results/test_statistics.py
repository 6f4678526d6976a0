import math

import numpy as np
import pytest
from rows import rows
from scipy import stats as scipy_stats

from lth_keras.experiments.results import significance, statistics


def test_the_summary_is_mean_least_and_greatest_over_replicates():
    summary = statistics.summarise(rows((0, "ticket", 0, 100, 0.9), (1, "ticket", 0, 300, 0.8),
                                   (0, "reinit", 1, 50, 0.7)))
    dense = summary.loc[("ticket", 0)]
    assert dense["early_stop_step"].tolist() == [200, 100, 300]
    assert dense["test_accuracy_early_stop"].tolist() == pytest.approx([0.85, 0.8, 0.9])
    assert dense[("replicates", "count")] == 2
    assert summary.loc[("reinit", 1), ("replicates", "count")] == 1


def test_a_training_that_diverged_is_in_no_mean():
    summary = statistics.summarise(rows((0, "ticket", 0, 100, 0.9), (1, "ticket", 0, None, None)))
    assert summary.loc[("ticket", 0), ("replicates", "count")] == 1
    assert summary.loc[("ticket", 0), ("early_stop_step", "mean")] == 100


def test_accuracies_at_chosen_steps_are_summarised_too():
    table = rows((0, "ticket", 0, 100, 0.9), (1, "ticket", 0, 300, 0.8))
    table["test_accuracy_step_200"] = [0.5, 0.7]
    assert statistics.summarise(table).loc[("ticket", 0), "test_accuracy_step_200"].tolist() == \
        pytest.approx([0.6, 0.5, 0.7])


def test_students_interval_is_that_of_a_paired_t_test():
    values = [0.3, -0.1, 0.25, 0.4, 0.05]
    found = statistics.student(values)
    interval = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(interval))
    assert found.mean == pytest.approx(0.18) and found.replicates == 5
    assert found.deviation == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize("interval", [statistics.student, statistics.bootstrap])
def test_one_replicate_has_no_interval_and_equal_ones_have_none_of_width(interval):
    one = interval([0.5])
    assert one.mean == 0.5 and one.replicates == 1
    assert math.isnan(one.low) and math.isnan(one.high) and math.isnan(one.deviation)
    same = interval([0.9 - 0.8, 0.8 - 0.7, 0.1])  # Not all the same bits.
    assert same.low == same.mean == same.high and same.deviation == 0


def test_the_bootstrap_is_scipys_and_repeats():
    values = [1.0, 4.0, 2.0, 8.0, 5.0]
    interval = scipy_stats.bootstrap((values,), np.mean, method="BCa",
                                     rng=np.random.default_rng(0)).confidence_interval
    for found in (statistics.bootstrap(values), statistics.bootstrap(values)):
        assert (found.low, found.high) == tuple(interval)
    other = statistics.bootstrap(values, rng=np.random.default_rng(1), resamples=50)
    assert other.low != found.low
    wide, narrow = statistics.bootstrap(values, 0.99), statistics.bootstrap(values, 0.5)
    assert wide.low < narrow.low < 4 < narrow.high < wide.high


def test_where_bca_has_no_value_percentiles_are_taken(monkeypatch):
    asked = []
    bootstrap = scipy_stats.bootstrap

    def without_bca(*arguments, method, **options):
        asked.append(method)
        found = bootstrap(*arguments, method=method, **options)
        if method == "BCa":
            found.confidence_interval = type(found.confidence_interval)(math.nan, math.nan)
        return found
    monkeypatch.setattr(scipy_stats, "bootstrap", without_bca)
    found = statistics.bootstrap([1.0, 2.0, 4.0])
    assert asked == ["BCa", "percentile"] and 1 <= found.low < found.high <= 4


def test_differences_are_paired_over_the_replicates_that_have_both():
    table = rows((0, "ticket", 0, 100, 0.90), (1, "ticket", 0, 500, 0.80), (2, "ticket", 0, 9, 0),
                 (0, "ticket", 1, 90, 0.91), (1, "ticket", 1, 480, 0.83),
                 (3, "ticket", 1, 1, 0.1), (2, "ticket", 1, None, None))
    found = statistics.paired(table, "early_stop_step", 1)
    assert found == statistics.student([-10, -20])
    assert statistics.paired(table, "test_accuracy_early_stop", 1).mean == pytest.approx(0.02)
    assert statistics.paired(table, "early_stop_step", 1, "reinit") is None


def test_a_controls_repeats_are_averaged_within_their_replicate_first():
    table = rows((0, "ticket", 1, 100, 0.9), (1, "ticket", 1, 100, 0.9),
                 (0, "reinit", 1, 100, 0.5), (0, "reinit", 1, 300, 0.5), (0, "reinit", 1, 500, 0.8),
                 (1, "reinit", 1, 600, 0.6), (1, "reinit", 1, None, None))
    found = statistics.paired(table, "early_stop_step", 1, "reinit")
    assert found == statistics.student([-200, -500])
    assert statistics.by_replicate(table, "test_accuracy_early_stop", "reinit", 1).tolist() == \
        pytest.approx([0.6, 0.6])


def test_the_table_of_differences_has_dense_and_every_control():
    table = rows((0, "ticket", 0, 100, 0.9), (0, "ticket", 1, 90, 0.9), (0, "reinit", 1, 200, 0.8),
                 (0, "ticket", 2, 80, 0.9), (0, "constant", 2, 70, 0.8))
    found = statistics.differences(table, "early_stop_step")
    assert found["mean"].to_dict() == {("dense", 1): -10, ("dense", 2): -20,
                                       ("constant", 2): 10, ("reinit", 1): -110}
    assert statistics.differences(table[:1], "early_stop_step").empty


@pytest.mark.parametrize("effect, needed", [(0.5, 34), (1.0, 10), (-1.0, 10), (2.0, 5), (50.0, 2),
                                            (0.05, None), (0.0, None)])
def test_replicates_needed_are_those_of_a_t_test_of_80_percent_power(effect, needed):
    # Cohen 1988 and G*Power: 34 pairs for an effect of 0.5, 10 for one of 1.
    assert significance.replicates_needed(statistics.Estimate(effect, 0, 0, 1.0, 3)) == needed
    assert significance.replicates_needed(statistics.Estimate(effect + 7, 0, 0, 1.0, 3),
                                        margin=7) == needed


def test_replicates_needed_are_unknown_of_one_and_two_of_a_difference_without_spread():
    assert significance.replicates_needed(statistics.student([1.0])) is None
    assert significance.replicates_needed(statistics.student([1.0, 1.0])) == 2


def test_intervals_of_normal_values_hold_their_mean_as_often_as_said():
    rng = np.random.default_rng(0)
    held = [statistics.student(values).low <= 0 <= statistics.student(values).high
            for values in rng.normal(size=(400, 5))]
    assert 0.92 < np.mean(held) < 0.98


@pytest.mark.parametrize("base", [[0.8, 0.81, 0.8], [-0.8, -0.81, -0.8]])
def test_a_share_of_a_loss_below_zero_is_of_its_size(base):
    one, other = np.array([0.01, 0.03, 0.02]) + base, np.array(base)
    found = statistics.relative(one, other)
    assert found.mean == pytest.approx(0.06 / abs(other.sum()))
    assert found.low < found.mean < found.high and found.deviation > 0
    turned = statistics.relative(-one, -other)
    assert (turned.mean, turned.low, turned.high) == pytest.approx(
        (-found.mean, -found.high, -found.low))
