"""A new kind of ticket is one class and one registration: nothing else knows its name."""

import numpy as np
import pytest
import small
from small import contents, run

from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.strategies import (
    FinishedRound,
    register,
    Retraining,
    RETRAININGS,
    Span,
    STRATEGIES,
    Strategy,
)
from lth_keras.experiments.config.trainings import Training, trainings
from lth_keras.experiments.results import repair, runs, store
from lth_keras.experiments.results.store import Store
from lth_keras.files.ticket import Ticket
from lth_keras.reports.plots import drawing, styles

pytestmark = pytest.mark.usefixtures("tiny_network")


class MeanOfTwo(Strategy):
    """Pruned by the mean of the dense network's and the ticket's trained weights."""

    name, summary = "mean_of_two", "by the mean of the dense network's and the ticket's weights"

    def takes(self, level):
        return (0,)

    def scored(self, ended):
        return {name: (value + ended.taken.get(0, ended.trained)[name]) / 2
                for name, value in ended.trained.items()}


class AtInit(Strategy):
    """Pruned by the weights before training, as scores at initialisation are."""

    name, summary = "at_init", "by the weights before training"

    def scored(self, ended):
        return ended.theta


class Gradual(Strategy):
    """One network, pruned every few steps and trained on (Zhu & Gupta 2017)."""

    name, summary, chain = "stepwise", "from a network that is pruned every few steps", "stepwise"

    def takes(self, level):
        return (level - 1,)

    def begin(self, ticket, taken):
        return taken[min(taken)]

    def span(self, config, level):
        return Span(config.validation_every)


class Elsewhere(Strategy):
    """Masks that no training decides, as those of a ticket of another network would be."""

    name, summary = "elsewhere", "masks from elsewhere"

    def next_masks(self, ended, prune):
        return {name: np.asarray(mask * (np.arange(mask.size).reshape(mask.shape) > ended.level),
                                 np.uint8) for name, mask in ended.masks.items()}


class Halfway(Retraining):
    """Survivors go halfway back."""

    name, summary = "halfway", "halfway to where they began"

    def survivors(self, theta, scored):
        return {name: (value + scored[name]) / 2 for name, value in theta.items()}


@pytest.fixture(scope="module", params=[MeanOfTwo, AtInit, Gradual, Elsewhere, Halfway])
def done(request, tmp_path_factory, tiny_network):
    """A run of a kind that is registered for as long as its tests."""
    kind = request.param
    register(kind)
    field = "strategy" if issubclass(kind, Strategy) else "retraining"
    config = small.CONFIG.replace(**{field: kind.name}, branches=("ticket", "reinit"))
    root = tmp_path_factory.mktemp(kind.name)
    watch = run(root, config)
    assert watch.ended == list(trainings(config))
    yield kind, config, root
    (STRATEGIES if field == "strategy" else RETRAININGS).pop(kind.name)


def ticket(root, config, level):
    return Ticket.load(Store(root, config).ticket(0, level))


def test_its_masks_and_weights_are_those_that_it_says(done):
    kind, config, root = done
    kept = Store(root, config)
    dense = kept.read_trained(Training(0, 0)).weights
    theta = ticket(root, config, 0).weights
    for level in (0, 1):
        below, above = ticket(root, config, level), ticket(root, config, level + 1)
        trained = kept.read_trained(Training(0, level, config.chain(level))).weights
        by = {MeanOfTwo: {name: (dense[name] + trained[name]) / 2 for name in trained},
              AtInit: theta}.get(kind, trained)
        for name, mask in above.masks.items():
            gone = (below.masks[name] != 0) & (mask == 0)
            assert gone.any()
            if kind is Elsewhere:
                assert np.flatnonzero(gone).tolist() == [level]
            else:
                assert abs(by[name][gone]).max() < abs(by[name][mask != 0]).min()
            expected = theta[name] if kind is not Halfway else \
                (below.weights[name] + trained[name]) / 2
            assert (above.weights[name] == expected).all()


def test_its_chain_is_trained_as_it_says_and_beside_the_ticket(done):
    kind, _, root = done
    table = store.results(root)
    branches = [*table.branch[table.level == 1]]
    assert branches == (["reinit", "stepwise", "ticket"] if kind is Gradual else
                        ["reinit", "ticket"])
    if kind is Gradual:
        curves = store.curves(root)
        steps = curves[curves.branch == "stepwise"].groupby("level").step.max()
        assert steps.tolist() == [4, 4]


def test_interrupted_it_ends_in_the_same_bits(done, tmp_path):
    _, config, root = done
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, config, stop_after=5)
    run(tmp_path, config)
    assert contents(tmp_path) == contents(root)
    assert repair.check(tmp_path, config) == []


def test_reports_know_it(done):
    kind, _, root = done
    plain = root.parent / f"plain_{kind.name}"
    run(plain, small.CONFIG)
    one, other = runs.read_all([root, plain])
    assert kind.name.replace("_", " ") in one.label and other.label != one.label
    assert drawing.branches(one.results)[0] == "ticket"
    assert styles.style(kind.chain if kind is Gradual else "ticket")["marker"] != "x"


def test_it_is_written_down_by_name_and_unknown_elsewhere(done):
    kind, config, _ = done
    plain = config.to_dict()
    assert Config.from_plain(plain) == config and kind.name in config.identity.values()
    known = STRATEGIES if issubclass(kind, Strategy) else RETRAININGS
    registered = known.pop(kind.name)
    try:
        with pytest.raises(LotteryError, match=f"must be one of .*Received: '{kind.name}'"):
            Config.from_plain(plain)
    finally:
        known[kind.name] = registered


def test_what_it_finds_is_named():
    assert [*FinishedRound.__dataclass_fields__] == [
        "level", "masks", "theta", "trained", "taken", "at_init"]
