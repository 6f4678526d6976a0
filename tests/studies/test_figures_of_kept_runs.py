import paper_figures  # studies/paper_figures.py
import pytest
import reproduction

pytest.importorskip("matplotlib")


def test_a_figure_shows_the_runs_that_are_kept_and_names_their_protocol():
    tables, about = reproduction.read(reproduction.HERE / "results")
    name = paper_figures.SHOWN[5][0]
    assert not paper_figures.draw({}, {})
    figures = paper_figures.draw({name: tables["conv2"]}, {name: about["conv2"]})
    assert [*figures] == [5]
    axes = figures[5].axes[0]
    ticket = next(line for line in axes.get_lines() if line.get_marker() == "o")
    rows = tables["conv2"].query("branch == 'ticket'")
    assert ticket.get_ydata() == pytest.approx(rows.early_stop_step.to_numpy(float))
    assert "1,000 steps, one replicate, scale 0.05" in figures[5].get_suptitle()
