"""Workdirs of searches that nobody trained: known weights, masks by magnitude."""

import numpy as np
import pandas as pd
import workdirs

from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.strategies import FinishedRound, RETRAININGS, STRATEGIES
from lth_keras.experiments.config.trainings import chain, takes_from, trainings
from lth_keras.experiments.results.store import Store
from lth_keras.files import checksums
from lth_keras.files.ticket import Ticket

CONFIG = Config(preset="made", network="tiny", dataset="blobs", steps=100, rounds=3, replicates=2,
                branches=("ticket",))
SHAPES = {"conv/kernel": (3, 3, 2, 8), "fc/kernel": (40, 10)}


def fill(root, config=CONFIG, trained=None, done=lambda training: True, diverged=()):
    """A run of a configuration in which training is a function of the initial weights.

    Args:
      root: the folder.
      config: the settings.
      trained: (initial, training) -> trained weights; by default each weight times 1.5 where it
        is above its median by magnitude and times 0.5 elsewhere.
      done: which trainings are finished.
      diverged: those of them that diverged.
    """
    store = Store(root, config)
    store.begin()
    final = {}
    for training in trainings(config):
        if not done(training):
            continue
        rng = np.random.default_rng([config.seed, training.replicate])
        initial = {**{name: rng.normal(size=shape).astype(np.float32)
                      for name, shape in SHAPES.items()}, "fc/bias": np.zeros(10, np.float32)}
        start = masks = None
        if training.level:
            ticket, start = store.read_ticket(training.replicate, training.level)
            masks = ticket.masks
        else:
            masks = {name: np.ones(shape, np.uint8) for name, shape in SHAPES.items()}
            start = Ticket(initial, masks, 0, {})
        if training.level == 0 and training.branch_index:
            start = checksums.mark(store.ticket(training.replicate, 0).read_bytes())
        weights = (trained or grown)(initial, training)
        weights |= {name: weights[name] * mask for name, mask in masks.items()}
        final[training] = weights
        taken = {other.level: final[other] for other in takes_from(config, training)}
        fine = training not in diverged
        chained = fine and training == chain(config, training.replicate, training.level)
        kept = fine and config.keep_trained != "none"
        ended = FinishedRound(training.level, masks, initial, weights, taken)
        by = STRATEGIES[config.strategy].scored(ended)
        theta = RETRAININGS[config.retraining].survivors(initial, weights)
        store.finish(training, {**(workdirs.RESULT if fine else workdirs.DIVERGED),
                                "density": _density(masks)}, workdirs.CURVE, start,
                     following=_pruned(theta, by, masks, training) if chained else None,
                     trained=Ticket(weights, masks, training.level, {}) if kept else None)
    return root


def grown(initial, training):
    """Large weights grow by a half and small ones shrink by a half."""
    return {name: (value * np.where(np.abs(value) > np.median(np.abs(value)), 1.5, 0.5)
                   ).astype(np.float32) for name, value in initial.items()}


def _pruned(theta, final, masks, training):
    # The half of each weight that is largest after training.
    kept = {}
    for name, mask in masks.items():
        size = np.abs(final[name]) * mask
        kept[name] = (size > np.median(size[mask != 0])).astype(np.uint8)
    return Ticket(theta, kept, training.level + 1, {})


def _density(masks):
    return sum(int(mask.sum()) for mask in masks.values()) / sum(map(np.size, masks.values()))


def read(folder, name):
    """A CSV file of an analysis."""
    return pd.read_csv(folder / f"{name}.csv")
