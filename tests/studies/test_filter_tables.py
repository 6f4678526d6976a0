import pathlib

import filter_tables  # studies/filter_tables.py
import pytest
import reproduction

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "experiments.md"


@pytest.fixture(scope="module")
def kept():
    return reproduction.read(reproduction.HERE / "results")


def test_the_tables_of_the_page_are_those_of_the_kept_results(kept):
    tables, _ = kept
    page = PAGE.read_text()
    for name in filter_tables.PICTURES:
        if name in tables:
            assert "\n".join(filter_tables.table(name, tables)) in page


def test_networks_of_several_runs_are_compared_in_pairs(kept):
    tables, about = kept
    rows = filter_tables.compared("lenet5_filters", tables, about).rows
    rows = rows.set_index(["level", "network"])
    assert set(rows.index.get_level_values("network")) == {
        "reinit", "scratch", "fine_tuning", "learning_rate_rewinding"}

    def final(run, branch):
        found = tables[run]
        return found[(found.branch == branch) & (found.level == 2)].set_index(
            "replicate").test_accuracy_final
    other = 100 * (final("lenet5_filters_tuned", "ticket") - final("lenet5_filters", "ticket"))
    assert rows.difference[2, "fine_tuning"] == pytest.approx(other.mean())


def test_a_table_has_no_column_of_a_run_that_is_not_kept(kept):
    tables = {"lenet5_filters": kept[0]["lenet5_filters"].query("replicate == 0")}
    header, _, dense, first, *_ = filter_tables.table("lenet5_filters", tables)
    assert header == "| level | P_m | multiply-adds | ticket | re-initialised | scratch |"
    assert dense.count("%") == 3 and first.count("%") == 5
