"""Comparing: what the program gives here beside what TensorFlow computed."""

import json
import pathlib
from typing import Any

import numpy as np

from .program import Arrays, Interval, put

ENTRIES = 2**18  # Of a variable that are compared, at most.


def compare(interval: Interval, folder: pathlib.Path, tolerance: float) -> dict[str, Any]:
    """The differences from what TensorFlow computed, after one step and after intervals.

    A variable's difference is taken relative to how far it moved: the norm of the difference
    over the norm of the movement, which is about 1 if it is some other variable's value.

    Returns:
      stage -> absolute: largest difference of an entry; relative: of an entry, to the
      largest entry of its variable; movement: largest difference relative to movement, and
      `worst`, the variable it is of; rounding: the same between two runs here, one from
      weights whose last bit is another; loss: largest
      relative difference of a loss or metric; passed: whether movement is within the
      tolerance, and loss within a hundredth of it.
    """
    expected = np.load(folder / "expected.npz")
    logs = json.loads((folder / "expected.json").read_text())
    report = {}
    for stage, theirs in logs.items():
        start, _ = _after(interval, stage, 0)
        ours, given = _after(interval, stage, len(theirs))
        nudged, _ = _after(interval, stage, len(theirs), nudge=True)
        rows = [_difference(key, value, expected[f"{stage}/{key}"], start[key])
                for key, value in ours.items()]
        rounding = [_difference(key, nudged[key], value, start[key])["movement"]
                    for key, value in ours.items()]
        loss = max(abs(mine[name] - value) / max(abs(value), 1e-6)
                   for mine, other in zip(given, theirs, strict=True)
                   for name, value in other.items())
        worst = max(rows, key=lambda row: row["movement"])
        report[stage] = {
            "absolute": max(row["absolute"] for row in rows),
            "relative": max(row["relative"] for row in rows),
            "movement": worst["movement"], "worst": worst["name"],
            "rounding": max(rounding), "loss": loss,
            "passed": bool(worst["movement"] <= tolerance and loss <= tolerance / 100)}
    return report


def _after(interval: Interval, stage: str, number: int,
           nudge: bool = False) -> tuple[Arrays, list[dict[str, float]]]:
    # What the program assigns, after so many intervals from the start, and the logs of each.
    interval.restart(interval.masks)
    if nudge:
        rng = np.random.default_rng(0)
        for name in interval.masks:
            weight = np.asarray(interval.state[f"weight {name}"])
            aside = np.nextafter(weight, rng.choice(np.float32([-1, 1]), weight.shape))
            interval.state[f"weight {name}"] = put(np.where(weight != 0, aside, weight))
    logs = []
    for index in range(number):
        arguments = interval.exported_arguments(index)
        if stage == "one step":
            arguments["count"] = np.asarray(1)
        logs.append(interval.run(arguments))
    return {key: sample(np.asarray(interval.state[key]), ENTRIES)
            for key, row in zip(interval.keys, interval.parameters, strict=True)
            if "output" in row}, logs


def _difference(key: str, ours: np.ndarray, theirs: np.ndarray,
                start: np.ndarray) -> dict[str, Any]:
    ours, theirs, start = (array.astype(np.float64) for array in (ours, theirs, start))
    absolute = float(np.abs(ours - theirs).max())
    off, moved = np.linalg.norm(ours - theirs), np.linalg.norm(theirs - start)
    return {"name": key, "absolute": absolute,
            "relative": absolute / max(float(np.abs(theirs).max()), 1e-30),
            "movement": float(off / moved) if moved else float(off > 0)}


def sample(array: np.ndarray, most: int) -> np.ndarray:
    """Every n-th entry of an array, with the least n that leaves at most so many."""
    return np.ravel(array)[::max(1, -(-np.size(array) // most))]
