"""Rows of results without training."""

import pandas as pd

from lth_keras.experiments.results.store import COLUMNS

DENSITIES = {0: 1.0, 1: 0.5, 2: 0.25}


def rows(*trainings):
    """Rows of (replicate, branch, level, early-stop step, test accuracy there)."""
    return pd.DataFrame([
        {"replicate": replicate, "branch": branch, "branch_index": 0, "level": level,
         "density": DENSITIES[level], "early_stop_step": step, "val_loss_min": 0.1,
         "test_accuracy_early_stop": accuracy, "test_accuracy_final": accuracy,
         "train_accuracy_final": 1.0, "seconds": 1.0, "diverged_at_step": None}
        for replicate, branch, level, step, accuracy in trainings], columns=list(COLUMNS))


def costed(results):
    """The same rows with the costs of a network whose filters are pruned."""
    return results.assign(macs_left=results.density ** 2, parameters=5000 * results.density,
                          macs=80_000 * results.density ** 2)
