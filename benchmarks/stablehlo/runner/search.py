"""A whole search: levels of training, pruning and rewinding, in one compiled program."""

import fractions
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from .program import Arrays, Interval


def search(interval: Interval, levels: int, steps: int, fraction: float | dict[str, float],
           seed: int) -> Iterator[dict[str, float]]:
    """Trains, prunes and rewinds level after level, in one compiled program.

    Args:
      interval: the program.
      levels: how many networks to train; the first is dense.
      steps: optimizer steps of each.
      fraction: share of each weight's remaining entries that is pruned, one or by name.
      seed: of the order of the examples.

    Yields:
      A row a level: level, density, early_stop_step (of least validation loss, the first of
      equal ones), val_loss_min, val_accuracy (at that step), test_accuracy_early_stop,
      ms_per_step (all included: validation, transfers, testing).
    """
    described, validation = interval.signature["data"], interval.initial["argument validation"][0]
    train = np.setdiff1d(np.arange(*described["train"]), validation)
    rows, batch = interval.initial["argument indices"].shape[1:]
    masks = {name: np.ones_like(mask) for name, mask in interval.masks.items()}
    for level in range(levels):
        interval.restart(masks)
        order = batches(train, rows, batch, steps, np.random.default_rng((seed, level)))
        best: dict[str, Any] = {"val_loss": np.inf}
        began, step = time.perf_counter(), 0
        for count, indices in order:
            logs = interval.run({"indices": indices, "count": count, "first": step})
            step += count
            if logs["val_loss"] < best["val_loss"]:
                best = {**logs, "step": step, "state": _copied(interval.state)}
        if not np.isfinite(best["val_loss"]):
            raise ValueError("A training must stay finite. Received: no finite validation loss "
                             f"at level {level}.")
        trained = {name: np.asarray(interval.state[f"weight {name}"]) for name in masks}
        interval.state.update(best["state"])
        tested = _test_accuracy(interval, described["test"], len(validation))
        milliseconds = 1e3 * (time.perf_counter() - began) / steps
        yield {"level": level, "density": density(masks), "early_stop_step": best["step"],
               "val_loss_min": best["val_loss"], "val_accuracy": best["val_accuracy"],
               "test_accuracy_early_stop": tested, "ms_per_step": milliseconds}
        masks = {name: prune(np.abs(trained[name]), mask,
                             fraction[name] if isinstance(fraction, dict) else fraction)
                 for name, mask in masks.items()}


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    # The next interval takes the state's own buffers.
    import jax.numpy as jnp
    return {key: jnp.copy(value) for key, value in state.items()
            if key.startswith(("weight ", "statistic "))}


def _test_accuracy(interval: Interval, test: list[int], together: int) -> float:
    # An interval of no steps validates, and the examples for testing are in the data too.
    portions = [np.arange(begin, begin + together)
                for begin in range(test[0], test[1] - together + 1, together)]
    found = [interval.run({"count": 0, "validation": portion})["val_accuracy"]
             for portion in portions]
    return float(np.mean(found)) if found else float("nan")


def prune(scores: np.ndarray, mask: np.ndarray, fraction: float) -> np.ndarray:
    """Drops the k lowest scores of what remains, k = round(fraction x remaining).

    As `core.pruning`, which cannot be imported without TensorFlow: a half goes to the even
    number, equal scores by position.
    """
    flat = (mask != 0).ravel()
    positions = np.flatnonzero(flat)
    drop = round(fractions.Fraction(repr(float(fraction))) * len(positions))
    flat[positions[np.argsort(scores.ravel()[positions], kind="stable")[:drop]]] = False
    return flat.reshape(mask.shape).astype(mask.dtype)


def density(masks: Arrays) -> float:
    """The share of prunable weights that is kept."""
    return (sum(int(np.count_nonzero(mask)) for mask in masks.values())
            / sum(mask.size for mask in masks.values()))


def batches(train: np.ndarray, rows: int, batch: int, steps: int,
            order: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    """The steps and the examples of each interval, as `training.trainer.intervals` has them."""
    waiting = np.empty(0, np.int64)
    for first in range(0, steps, rows):
        while len(waiting) < rows * batch:
            waiting = np.concatenate([waiting, order.permutation(train)])
        taken, waiting = np.split(waiting, [rows * batch])
        yield min(rows, steps - first), taken.reshape(rows, batch)
