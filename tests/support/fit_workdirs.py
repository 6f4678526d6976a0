"""The workdir of a search in `fit`, written without training."""

import numpy as np

from lth_keras.files import atomic, checksums, state_file
from lth_keras.files.state_file import RewindPoint, State
from lth_keras.files.ticket import Ticket

DENSITIES = (1.0, 0.5, 0.25)
SETTINGS = {"schedule": {"rounds": 2, "epochs_per_round": 2, "steps_per_round": None,
                         "fraction": 0.5},
            "rewind_step": 0, "scope": "layer", "seed": 0, "criterion": "magnitude",
            "optimizer": "Adam"}
# Of the two epochs of each level: the first has the least loss at levels 1 and 2.
HISTORY = {"loss": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], "accuracy": [0.5, 0.6, 0.7, 0.8, 0.85, 0.9],
           "val_loss": [0.5, 0.4, 0.3, 0.35, 0.6, 0.7],
           "val_accuracy": [0.7, 0.8, 0.9, 0.85, 0.75, 0.7],
           "level": [0, 0, 1, 1, 2, 2], "density": [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]}


def row(level, history=HISTORY):
    """A row as `Round.row` gives it; its two epochs have ten steps each."""
    losses = history.get("val_loss", [None] * 6)[2 * level:2 * level + 2]
    best = None if losses[0] is None else min(losses)
    last = {name: values[2 * level + 1] for name, values in history.items()
            if name not in ("level", "density")}
    return {"level": level, "density": DENSITIES[level], "steps": 20, "epochs": 2,
            "early_stop_step": None if best is None else 10 * (1 + losses.index(best)),
            "val_loss_min": best, **last, "diverged": False, "seconds": 1.5}


def fill(root, seed=0, theta=1.5, *, levels=3, history=HISTORY, results=None, settings=SETTINGS,
         over=True):
    """A search of so many finished levels.

    Args:
      root: the folder.
      seed: of the search.
      theta: the first of its initial weights.
      levels: how many are finished.
      history: Keras' History.
      results: the text of results.csv; none is written by default.
      settings: the search's.
      over: whether the last of the levels is finished.
    """
    weights = {"w": np.array([[theta, -2], [3, 4]], np.float32)}
    start = state_file.encode_start(RewindPoint(weights, [], []))
    files = {"start.safetensors": start}
    for level in range(levels):
        mask = np.array([[1, level < 2], [level < 1, level < 1]], np.uint8)
        files[f"level_{level:02d}/ticket.safetensors"] = Ticket(
            weights, {"w": mask}, level, {"versions": {"tensorflow": "9.9"}}).to_bytes()
    last = row(levels - 1, history)
    named = {"level", "density", "steps", "epochs", "early_stop_step", "val_loss_min",
             "diverged", "seconds"}
    best = [last["val_loss_min"], last["early_stop_step"]]
    state = State(
        settings={**settings, "seed": seed}, epoch=2 * levels, first_epoch=0,
        round={"level": last["level"], "density": last["density"], "steps": 20, "epochs": 2,
               "over": over, "loss": 0.5, "seconds": 1.5,
               "logs": {name: value for name, value in last.items() if name not in named},
               "best": None if best[0] is None else best},
        rows=[row(level, history) for level in range(levels - 1)], restored=[],
        history={"epochs": list(range(2 * levels)),
                 "logs": {name: values[:2 * levels] for name, values in history.items()}},
        counters=[], callbacks=[], weights=weights, masks={}, thresholds={}, optimizer=[],
        draws=[], files={name: checksums.mark(data) for name, data in files.items()})
    for name, data in {**files, "state.safetensors": state_file.encode(state)}.items():
        atomic.write(root / name, data)
    if results is not None:
        atomic.write(root / "results.csv", results)
    return root
