"""Untrained: the accuracy of tickets before they are trained, as their masks alone give it.

Masks that are chosen after training leave networks that classify better than chance although
their weights are the initial ones: choosing which weights become zero is a kind of training (Zhou
et al., NeurIPS 2019, arXiv:1905.01067, section 5).  Beside each ticket there is a random mask that
keeps as many weights of each layer; and, if criteria are named, the masks that each of them gives
from the trained dense network at the same number of weights (the same, figure 5).
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lth_keras.core import criteria as criteria_by_name
from lth_keras.core.masks import Arrays, density, ones
from lth_keras.core.next_masks import PruningRule
from lth_keras.core.seeding import generator
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.strategies import RETRAININGS
from lth_keras.experiments.config.trainings import chain
from lth_keras.reports.analyses.analysis import Analysis, WorkdirReader
from lth_keras.reports.analyses.networks.network import check_dense_kept, Network, theta_k
from lth_keras.reports.plots import analysis_figures

RANDOM = "random mask"


def analyse(run: WorkdirReader, load: Callable[[], Network],
            levels: "Iterable[int] | None" = None, criteria: Sequence[str] = (),
            track: Callable[[list[int]], Iterable[int]] = iter) -> Analysis:
    """Measures the test accuracy of every level's ticket before training.

    Args:
      run: the workdir.
      load: makes the run's network; called once it is known that there is something to evaluate.
      levels: the levels. Defaults to all that have a ticket.
      criteria: names of criteria, whose masks of the trained dense network are evaluated too.
      track: wraps the list of replicates, to show a progress bar.

    Raises:
      WorkdirError: if no level has a ticket, or criteria are named and the trained weights of the
        dense network were not kept.
      LotteryError: if a criterion is unknown, or prunes only what this run does not.
    """
    wanted = run.levels(levels)
    for name in criteria:
        criteria_by_name.get(name)
    if criteria:
        run.check_trained("Criteria")
        check_dense_kept("A criterion", run, {
            replicate: chain(run.config, replicate, 0) for replicate in wanted})
    network = load()
    if criteria and any(structure.by_rounds or structure.coupled
                        for structure in network.rule.structures.values()):
        raise LotteryError("Masks by criteria are of single weights or blocks here. Received: "
                           f"criteria {', '.join(criteria)} for a run with structure="
                           f"{run.config.structure}. Leave them out.")
    rows = [row for replicate in track([*wanted])
            for row in _measures(run, network, replicate, wanted[replicate], criteria)]
    table = pd.DataFrame(rows).sort_values(["level", "replicate"], kind="stable",
                                           ignore_index=True)
    # Replicates of a level may differ in their last weights, and are one row all the same.
    table["remaining"] = table.groupby("level").remaining.transform("mean").map("{:.1%}".format)
    title = f"{run.title}: tickets before training"
    return Analysis(title, table, ("level", "remaining", "masks"), {"test_accuracy": ".1%"}, {},
                    analysis_figures.untrained_figure(table, title),
                    tuple(_notes(table, criteria)), across="masks")


def _measures(run: WorkdirReader, network: Network, replicate: int, levels: Sequence[int],
              criteria: Sequence[str]) -> Iterator[dict[str, Any]]:
    structure = next(iter(network.rule.structures.values()))
    by_criterion = {name: _ladder(run, network, replicate, name, max(levels, default=0))
                    for name in criteria}
    for level in levels:
        ticket = run.ticket(replicate, level)
        rng = generator(run.config.seed, "untrained", replicate=replicate, level=level)
        masks = {TICKET: ticket.masks, RANDOM: structure.shuffled_together(ticket.masks, rng),
                 **{name: ladder[level] for name, ladder in by_criterion.items()}}
        initial = RETRAININGS[run.config.retraining].rewinds
        weights = theta_k(run, replicate) if criteria or not initial else ticket.weights
        for name, each in masks.items():
            of = ticket.weights if name == TICKET and initial else weights
            result = network.evaluate({**of, **{
                weight: np.multiply(of[weight], mask) for weight, mask in each.items()}})
            yield {"replicate": replicate, "level": level,
                   "remaining": density(ticket.masks), "masks": name,
                   "density": density(each), "test_accuracy": result["accuracy"]}


def _ladder(run: WorkdirReader, network: Network, replicate: int, criterion: str,
            most: int) -> list[Arrays]:
    # The masks of every level by a criterion, all from the trained dense network.
    kept = run.trained(chain(run.config, replicate, 0))
    assert kept is not None
    theta, trained, rule = theta_k(run, replicate), kept.weights, network.rule
    dense = ones({name: trained[name].shape for name in rule.structures})
    provided = {need: functools.cache(compute) for need, compute in network.provided(
        replicate, theta, dense, trained).items()}
    own = PruningRule(criteria_by_name.check_needs(criterion, provided, "lth analyse untrained"),
                      rule.fractions, rule.structures, rule.scope, rule.rounds)
    found: list[Arrays] = [dense]
    for level in range(most):
        rng = generator(run.config.seed, "criterion", replicate=replicate)
        found.append(own.next_start(theta, found[-1], trained, rng, level=level,
                                    provided=provided)[1])
    return found


def _notes(table: pd.DataFrame, criteria: Sequence[str]) -> Iterator[str]:
    yield ("Test accuracy of theta_k under each mask, without training. random mask: as many "
           "weights of each layer as the ticket, anywhere.")
    if criteria:
        yield (f"{', '.join(criteria)}: masks by the criterion, all from the trained dense "
               "network.")
    means = table[table.level > 0].groupby(["masks", "level"], as_index=False).test_accuracy.mean()
    if not means.empty:
        best = means.loc[means.test_accuracy.idxmax()]
        yield f"Most accurate: {best.masks} at level {best.level}, {best.test_accuracy:.1%}."
