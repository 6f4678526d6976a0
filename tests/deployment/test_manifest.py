"""Deployments: budgets, the table, the picture and the card, over fabricated figures."""

import io
import json

import pandas as pd
import pytest
from deployments import FACTS, made, REFUSED, row
from rich.console import Console

from lth_keras.deployment import manifest, model_card
from lth_keras.deployment.manifest import Budget, Deployment
from lth_keras.errors import LotteryError
from lth_keras.reports import deployment_tables


def choose(budget, *rows):
    return Budget(**budget).choose(manifest.table(rows))


@pytest.mark.parametrize(("budget", "format_"), [
    ({"max_bytes": 500}, "small"), ({"max_latency_us": 5}, "fast"),
    ({"min_accuracy": 0.985}, "good"), ({"max_bytes": 1000, "max_latency_us": 25}, "float32"),
    ({"min_accuracy": 0.965}, "small"), ({"max_bytes": 499}, None), ({}, "good"),
    ({"min_accuracy": 0.981, "max_bytes": 999}, None)])
def test_a_budget_takes_the_most_accurate_or_the_smallest_accurate_enough(budget, format_):
    found = choose(budget, row(), row("small", size=500, accuracy=0.97, latency=30.0),
                   row("fast", latency=5.0, accuracy=0.9), row("good", accuracy=0.99, size=2000))
    assert (None if found is None else found["format"]) == format_


def test_of_equal_accuracy_the_smallest_is_taken_and_refused_ones_never():
    assert choose({}, row(size=20), row("b", size=10), row("c", size=30))["format"] == "b"
    assert choose({}, row(size=20), row("b", size=10, status="refused"))["format"] == "float32"
    assert choose({"max_bytes": 10**9}, REFUSED) is None


@pytest.mark.parametrize("wrong", [
    {"max_bytes": -1}, {"min_accuracy": 1.5}, {"min_accuracy": float("nan")},
    {"max_latency_us": -0.1}])
def test_a_budget_out_of_range_is_refused(wrong):
    with pytest.raises(LotteryError, match=f"{next(iter(wrong))} must be"):
        Budget(**wrong)


def test_what_comes_nearest_is_said():
    rows = manifest.table([row(), row("small", size=500)])
    assert "the smallest has 500 bytes" in Budget(max_bytes=10).nearest(rows)
    assert "the fastest takes 20.0 us" in Budget(max_latency_us=1).nearest(rows)
    assert Budget(max_bytes=10).nearest(rows[:0]) == "No format was shipped."
    assert str(Budget(max_bytes=10_000, min_accuracy=0.9)) == \
        "at most 10,000 bytes, accuracy of at least 90.00%"
    assert not Budget() and Budget(max_bytes=0)


def test_a_deployment_is_read_as_it_was_written(tmp_path):
    before = made(tmp_path)
    before.save()
    after = manifest.read(tmp_path)
    pd.testing.assert_frame_equal(after.rows, before.rows, check_dtype=False)
    assert after.facts == json.loads(json.dumps(before.facts))
    assert after.shipped == ["float32"]
    assert after.refused == {"float16_sparse": "it computes NaN. Instead: float32_sparse."}
    assert "NaN" not in (tmp_path / manifest.FILE).read_text().replace("computes NaN", "")


def test_a_deployment_of_an_earlier_version_is_read_and_told_without_costs(tmp_path):
    made(tmp_path).save()
    plain = json.loads((tmp_path / manifest.FILE).read_text())
    del plain["facts"]["costs"]
    for each in plain["rows"]:
        del each["parameters"], each["macs"]
    (tmp_path / manifest.FILE).write_text(json.dumps(plain))
    found = manifest.read(tmp_path)
    assert found.rows.macs.isna().all() and found.rows.macs.dtype == float
    assert "multiply-adds" not in model_card.text(found)
    written = io.StringIO()
    console = Console(file=written, width=200)
    console.print(deployment_tables.table(found), deployment_tables.by_level(found.rows))
    assert "multiply-adds" not in written.getvalue() and "macs" not in written.getvalue()


def test_a_format_shipped_for_one_runtime_is_shipped(tmp_path):
    found = made(tmp_path, [row("x", status="refused"), row("x", runtime="litert_builtin")])
    assert found.shipped == ["x"] and not found.refused


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 1}', "null",
                                  '{"version": 2, "facts": {}, "rows": []}',
                                  '{"version": 1, "facts": [], "rows": []}',
                                  '{"version": 1, "facts": {}, "rows": [{"bytes": "many"}]}',
                                  '{"version": 1, "facts": {}, "rows": 3}', "\ud800", "[" * 10**5])
def test_what_is_no_deployment_is_refused(tmp_path, text):
    (tmp_path / manifest.FILE).write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(LotteryError, match=f"the {manifest.FILE} that an export wrote"):
        manifest.read(tmp_path)


def test_the_table_has_every_row_and_the_dense_network(tmp_path):
    written = io.StringIO()
    Console(file=written, width=200).print(deployment_tables.table(made(tmp_path)))
    text = written.getvalue()
    assert "lenet, level 3 (51.2% of the weights)" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.split()[1:]}
    assert "9,000" in lines["dense"] and "1,000" in lines["float32"]
    assert "float16_sparse *" in lines["float16_sparse"] and "20.0 [19.0, 21.0]" in lines["float32"]
    assert "98.00% on 10,000 held-out examples" in text
    assert "254,376 multiply-adds (20.3% of the dense network's 1,255,040) with 255 parameters" \
        " (25.5% of 1,000)" in " ".join(text.split())


def test_the_table_fits_a_terminal_of_80_characters(tmp_path):
    written = io.StringIO()
    rows = [row("dynamic_int8_sparse", size=12_345_678, status="refused"),
            row("dynamic_int8_sparse", size=12_345_678, runtime="litert_builtin", latency=12345.6)]
    Console(file=written, width=80).print(deployment_tables.table(made(tmp_path, rows), wide=False))
    text = written.getvalue()
    assert "dynamic_int8_sparse" in text and "  no delegates" in text and "…" not in text
    assert "12,346" in text and text.count("12,345,678") == 1


def test_the_table_of_levels_has_the_best_of_each():
    rows = manifest.table([row(), row("dynamic_int8_sparse", size=10, latency=30.0), REFUSED,
                             row(level=4, accuracy=0.97)])
    written = io.StringIO()
    Console(file=written, width=80).print(deployment_tables.by_level(rows))
    lines = [line.split() for line in written.getvalue().splitlines()]
    first = next(place for place, line in enumerate(lines) if line[:1] == ["3"])
    assert lines[first] == ["3", "51.2", "10", "5", "20.0", "98.00"]
    assert lines[first + 1] == ["254k", "dynamic_int8_sparse", "dynamic_int8_sparse", "float32"]
    assert next(line for line in lines if line[:1] == ["4"])[-1] == "97.00"


def test_the_picture_draws_what_was_shipped_at_each_level():
    rows = manifest.table([row(level=level, size=1000 - 100 * level) for level in range(4)]
                            + [row("float16", level=2), {**REFUSED, "level": 2}])
    figure = deployment_tables.figure(rows, "costs")
    accuracy, size, zipped, latency = figure.axes
    lines = {line.get_label(): line for line in size.get_lines()}
    assert set(lines) == {"float32", "float16"}
    assert lines["float32"].get_ydata().tolist() == [1000, 900, 800, 700]
    assert lines["float32"].get_xdata() == pytest.approx([100, 80, 64, 51.2])
    assert zipped.get_lines()[0].get_ydata().tolist() == [500, 450, 400, 350]
    assert "microseconds" in latency.get_ylabel() and "accuracy" in accuracy.get_ylabel()


def test_the_card_says_what_it_is_where_from_how_good_and_how_to_use_it(tmp_path):
    text = model_card.text(made(tmp_path))
    head = text.split("---")[1]
    assert "- Verdict of its run: Winning ticket at level 3. This level: winning." in text
    assert 'datasets: ["mnist"]' in head and '"type": "accuracy", "value": 0.98' in head
    for part in ("# lenet, level 3", "51.20% of the prunable weights", "pruning 3 times",
                 "float32 of shape (batch, 28, 28)", "Divide pixel values by 255",
                 "98.00% on 10,000",
                 "- One example takes 254,376 multiply-adds (20.3% of the dense network's "
                 "1,255,040) with 255 parameters (25.5% of 1,000).\n  - odd: counted once a step",
                 "| `model_float32.tflite` | ai-edge-litert | 1,000 | 500 | 98.00% |",
                 "| the dense network as float32 | ai-edge-litert | 9,000 |",
                 "fraction default:0.2",
                 "float16_sparse in ai-edge-litert: it computes NaN. Instead: float32",
                 "lth run lenet_300_100",
                 "fingerprint 0a1b2c3d4e", "3 of 400 units", "## Limits", "tensorflow 2.21.0"):
        assert part in text, part


@pytest.mark.parametrize(("level", "settings", "said"), [
    (0, {}, "A network.\n"),
    (1, {}, "of the dense network, found by pruning once and rewinding the remaining weights ("),
    (2, {"fraction": {"default": 0.2}}, ", found by pruning 2 times and rewinding the remaining"),
    (1, {"at_init": "snip"}, ", found by pruning it once, by snip, before it was trained.\n"),
    (1, {"sparse_training": "rigl"}, ", found while it was trained sparse, by the method rigl.\n"),
    (1, {"supermask": "edge_popup"}, "masks of its initial weights, by the method edge_popup.\n"),
    (1, {"strong": "subset_sum"}, ", found in random weights, which were pruned by the method "),
    (3, {"strategy": "one_shot", "retraining": "fine_tuning"},
     ", of level 3 of a run with strategy=one_shot and retraining=fine_tuning.\n"),
    (3, {"criterion": "random"}, ", found by pruning 3 times"), (3, "damaged", "pruning 3")])
def test_the_card_says_how_the_network_was_found(tmp_path, level, settings, said):
    found = made(tmp_path)
    found.facts.update(level=level, settings=settings, density=0.5 if level else 1.0, preset=None)
    text = model_card.text(found)
    assert said in text and (level or "by pruning" not in text)


def test_the_card_of_a_network_of_ones_own_says_only_what_is_known(tmp_path):
    facts = {name: FACTS[name] for name in ("name", "input", "output", "versions", "machine",
                                           "threads")}
    own = Deployment(tmp_path, manifest.table([{
        **row(), "level": None, "density": None, "accuracy": None}]), {
        **facts, "reference": {"accuracy": None, "examples": 4}, "compaction": "", "dense": None})
    text = model_card.text(own)
    assert "datasets" not in text and "lth run" not in text and "None" not in text
    assert "nan" not in text.lower().replace("finance", "")


def test_where_memory_is_not_known_there_is_a_dash(tmp_path):
    found = made(tmp_path, [row(peak_memory_bytes=None)], dense=row(peak_memory_bytes=None))
    assert model_card.text(found).count("| - |") == 2
    assert deployment_tables.table(found).row_count == 2
