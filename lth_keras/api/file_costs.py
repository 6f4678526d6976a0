"""What a network's file costs without its pruned filters: bytes, and the time of one example."""

import pathlib
import statistics
import tempfile
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from lth_keras.deployment import measuring
from lth_keras.deployment.compaction.compact import compact
from lth_keras.deployment.conversion import formats
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.errors import LotteryError

_FORMAT = "float32"
_TURNS = 3  # Both files are timed one after the other, so often.


def shares_left(model: Any, costs: Collection[str]) -> dict[str, float]:
    """Returns what is left of the costs of a model's TF Lite file in float32.

    The whole file has zeros where filters are pruned: its bytes and its latency are those of the
    dense network.  The other is of the network without these filters (`lth.compact`).

    Args:
      model: a built Sequential or functional model of either Keras, wrapped or not.
      costs: "bytes", "latency" or both.

    Returns:
      Cost -> the smaller file's share of the whole one's: of bytes in (0, 1]; of latency > 0, the
      ratio of medians over three turns on this machine.

    Raises:
      LotteryError: if the model has several inputs, cannot be converted, or its file does not run.

    Example:
      >>> import keras
      >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
      >>> shares_left(model, ["bytes"])
      {'bytes': 1.0}
    """
    kind = kind_of(model)
    # Not of the model itself, whose wrappers train on.
    plain = kind.bare(kind.copy(model)) if kind.is_wrapped(model) else model
    smaller = compact(plain).model
    if smaller.count_params() == plain.count_params():
        return dict.fromkeys(costs, 1.0)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, each in (("whole", plain), ("smaller", smaller)):
            paths.append(pathlib.Path(folder, name).with_suffix(formats.get(_FORMAT).suffix))
            formats.convert(each, _FORMAT, paths[-1])
        found = {"bytes": paths[1].stat().st_size / paths[0].stat().st_size}
        if "latency" in costs:
            found["latency"] = _ratio_of_latencies(plain, paths)
    return {name: found[name] for name in costs}


def _ratio_of_latencies(model: Any, paths: Sequence[pathlib.Path]) -> float:
    shapes = [tuple(each.shape[1:]) for each in model.inputs]
    if len(shapes) != 1 or None in shapes[0]:
        raise LotteryError("until can be of latency for a model of one input, of fixed size. "
                           f"Received: {model.name!r}, with {len(shapes)} inputs of {shapes}.")
    examples = np.random.default_rng(0).normal(size=(32, *shapes[0])).astype(np.float32)
    runtime = formats.runtimes(_FORMAT, model)[0]
    times: list[list[float]] = [[], []]
    for _ in range(_TURNS):
        for taken, path in zip(times, paths, strict=True):
            found = measuring.measure(path, runtime, examples)
            if found.batch_1 is None:
                raise LotteryError("until can be of latency for a model whose TF Lite file runs. "
                                   f"Received: {model.name!r}: {found.error}.")
            taken.append(found.batch_1.median)
    return statistics.median(times[1]) / statistics.median(times[0])
