"""A workdir filled without training."""

import contextlib
import dataclasses

import numpy as np
import pandas as pd
import pytest

from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import store
from lth_keras.experiments.results.store import Store
from lth_keras.files import checksums
from lth_keras.files.ticket import Ticket

RESULT = {"density": 0.8, "early_stop_step": 60, "val_loss_min": 0.1 + 0.2,
          "test_accuracy_early_stop": 0.97, "test_accuracy_final": 0.96,
          "train_accuracy_final": 1.0, "seconds": 1.25, "diverged_at_step": None}
DIVERGED = {"density": 0.8, "seconds": 0.5, "diverged_at_step": 50}
CURVE = pd.DataFrame({"step": [50, 100], "loss": [0.5, 0.25], "accuracy": [0.75, 0.875],
                      "val_loss": [0.625, 0.375], "val_accuracy": [0.5, 0.75]})


def ticket(level, theta=1.5):
    return Ticket({"w": np.array([theta, -2], np.float32)}, {"w": np.array([1, 0], np.uint8)},
                  level, {})


def trained_with(run, **versions):
    """Writes into the first replicate's first ticket what it was trained with."""
    path = run.ticket(run._config.first_replicate, 0)
    path.write_bytes(dataclasses.replace(
        ticket(0), provenance={"versions": versions}).to_bytes())


def finish(run, training, result=RESULT, curve=CURVE, theta=1.5):
    """Finishes a training; the ticket of its level is drawn if there is none."""
    path = run.ticket(training.replicate, training.level)
    start = checksums.mark(path.read_bytes()) if path.exists() else ticket(training.level, theta)
    pruned = training.branch == "ticket" and not result.get("diverged_at_step")
    return run.finish(training, result, curve, start,
                      following=ticket(training.level + 1, theta) if pruned else None,
                      trained=ticket(training.level, 2 * theta) if pruned else None)


@contextlib.contextmanager
def results_written_once(root):
    """results.csv is written when all is finished, not after every training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "write_results", lambda root: None)
        yield
    store.write_results(root)


def fill(root, config, theta=1.5):
    """A run of a configuration, done."""
    from lth_keras.experiments.config.trainings import trainings
    run = Store(root, config)
    run.begin()
    with results_written_once(root):
        for number, training in enumerate(trainings(config)):
            assert isinstance(training, Training)
            finish(run, training, {**RESULT, "early_stop_step": number}, theta=theta)
    return run
