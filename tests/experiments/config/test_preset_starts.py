"""Every preset trains: two steps at level 0, pruned, two at level 1, on images of noise."""

import numpy as np
import pytest
from ladders import filters, ladder, left, SHAPES

from lth_keras.core import masks
from lth_keras.experiments.config import presets
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training_keras2.engine import round_runner

# Dense and convolutional; the deep ones take many seconds each, and minutes together.
SHORT = ("conv2_dropout",)


def noise(config):
    """Images and classes without meaning, in the shape of the preset's data set."""
    rng = np.random.default_rng(0)

    def part(size):
        shape = (size, *SHAPES[config.dataset])
        return (rng.integers(0, 256, shape).astype(np.uint8),
                rng.integers(0, 10, size).astype(np.int32))
    return Data(*part(12), *part(4), classes=10)


def shortened(config):
    """A preset with what it has of schedule, dropout, augmentation in two steps of four images."""
    return config.replace(
        steps=2, validation_every=1, validation_size=4, batch_size=4, rounds=1, replicates=1,
        branches=("ticket",), warmup_steps=min(1, config.warmup_steps),
        learning_rate_drops=(1, 2)[:len(config.learning_rate_drops)],
        measured_steps=(1, 2)[:len(config.measured_steps)])


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.thorough if name in SHORT else pytest.mark.long)
    for name in presets.PRESETS])
def test_a_preset_trains_is_pruned_as_in_the_paper_and_stays_sparse(name):
    config = presets.get(name)
    lab = round_runner(shortened(config), noise(config))
    trained, train = [], lab.trainer.train

    def spy(specs, *others):
        made = train(specs, *others)
        trained.extend(zip(specs, made, strict=True))
        return made
    lab.trainer.train = spy
    ticket = lab.train(Training(0, 0), StartingPoint()).following
    lab.train(Training(0, 1), StartingPoint(ticket))
    assert ticket.level == 1
    if config.structure == "filters":
        assert filters(ticket.masks) == left(config)
    else:
        assert masks.kept(ticket.masks) == ladder(config)[1]
    (_, dense), (plan, sparse) = trained
    for weight, mask in ticket.masks.items():
        assert (plan.masks[weight] == mask).all()
        assert not sparse.weights[weight][mask == 0].any()
        assert mask.all() or dense.weights[weight][mask == 0].any()
        for one in (dense, sparse):
            assert np.isfinite(one.weights[weight]).all()
            assert (one.weights[weight] != plan.weights[weight])[mask == 1].any()
