"""Feeds examples to the compiled program: from the device's memory, or streamed to it.

Data that fit are moved to the device whole, and all steps between two validations are one
compiled program.  Larger data stay in memory or in a memory-mapped file, and tf.data streams their
batches to the device, some steps at a time.  Both train the same batches in the same order and
give the same weights, bit for bit.  Metrics may differ in the last bit of a float, since the sums
are made within programs of different size.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from lth_keras.core.masks import Array
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.spec import Interval
from lth_keras.experiments.training_keras2.program import Batches, Logs, Program

RESIDENT_MIB = 2048
# Bytes of examples that are streamed together: large enough that the cost of a call of the program
# does not show, small enough that two of them wait in memory.
_PIECE = 64 * 2**20


def batches(interval: Interval, seed: int) -> Batches:
    """Returns an interval as the arguments of the program."""
    values = interval.indices, interval.count, interval.first, (seed, 0)
    return Batches(*(tf.constant(value, tf.int32) for value in values))


def make(program: Program, data: Data, resident_mib: int = RESIDENT_MIB) -> "Resident | Streamed":
    """Makes the feed for a data set: Resident up to `resident_mib` MiB, otherwise Streamed."""
    size = data.x_train.nbytes + data.x_test.nbytes
    return (Resident if size <= resident_mib * 2**20 else Streamed)(program, data)


class Resident:
    """Keeps the whole data set on the device; a validation interval is one call."""

    def __init__(self, program: Program, data: Data):
        self._program = program
        self._train = self._place(data.x_train), self._place(data.y_train)
        self._test = self._place(data.x_test), self._place(data.y_test)
        self.interval = program.function(self._interval)
        self._evaluate = program.function(self._evaluation)

    def _place(self, array: Array) -> Any:
        if self._program.distribution.num_replicas_in_sync == 1:
            return tf.constant(array)
        # A variable gets a copy on the device of every replica.
        with self._program.distribution.scope():
            return tf.Variable(array, trainable=False)

    def train(self, intervals: Iterable[Interval], validation: Array,
              seed: int) -> Iterator[tuple[Interval, Logs]]:
        """Trains and validates, interval by interval; yields each interval's metrics."""
        for interval in intervals:
            yield interval, self.interval(batches(interval, seed),
                                          tf.constant(validation, tf.int32))

    def evaluate(self, part: str, indices: Array) -> Logs:
        """Returns the metrics over examples of the "train" or "test" part."""
        x, y = self._train if part == "train" else self._test
        logs: Logs = self._evaluate(x, y, tf.constant(indices, tf.int32))
        return logs

    # The methods below are compiled: Python runs in them only while they are traced.

    def _interval(self, batches: Batches, validation: tf.Tensor) -> Logs:
        model = self._program.model
        model.reset_metrics()
        self._program.steps(*self._train, batches)
        logs = dict(model.get_metrics_result())
        validated = self._evaluation(*self._train, validation)
        return {**logs, **{f"val_{name}": value for name, value in validated.items()}}

    def _evaluation(self, x: Any, y: Any, indices: tf.Tensor) -> Logs:
        self._program.model.reset_metrics()
        self._program.evaluation(x, y, indices)
        return dict(self._program.model.get_metrics_result())


class Streamed:
    """Streams batches through tf.data while the device computes."""

    def __init__(self, program: Program, data: Data):
        self._program = program
        self._data = data
        self.interval = program.function(program.steps)
        self._evaluate = program.function(program.evaluation)

    def train(self, intervals: Iterable[Interval], validation: Array,
              seed: int) -> Iterator[tuple[Interval, Logs]]:
        """Trains and validates, interval by interval; yields each interval's metrics."""
        # tf.data asks `pieces` ahead of time: `trained` tells which piece a batch belongs to.
        model, trained = self._program.model, []

        def pieces() -> Iterator[tuple[Array, Array]]:
            for interval in intervals:
                for piece in _split(interval, self._data.x_train[:1].nbytes):
                    trained.append((interval, piece))
                    yield self._examples("train", piece.indices.ravel())

        held_out = self._stream("train", validation)
        for x, y in self._dataset(pieces, "train"):
            interval, piece = trained.pop(0)
            if piece.first == interval.first:
                model.reset_metrics()
            rows = np.arange(len(y)).reshape(piece.indices.shape)
            self.interval(x, y, batches(dataclasses.replace(piece, indices=rows), seed))
            if piece.last == interval.last:
                logs = dict(model.get_metrics_result())
                validated = self._metrics_over(held_out)
                yield interval, {**logs, **{f"val_{name}": value
                                            for name, value in validated.items()}}

    def evaluate(self, part: str, indices: Array) -> Logs:
        """Returns the metrics over examples of the "train" or "test" part."""
        return self._metrics_over(self._stream(part, indices))

    def _metrics_over(self, dataset: tf.data.Dataset) -> Logs:
        self._program.model.reset_metrics()
        for x, y in dataset:
            self._evaluate(x, y, tf.range(len(y)))
        return dict(self._program.model.get_metrics_result())

    def _stream(self, part: str, indices: Array) -> tf.data.Dataset:
        # In the portions in which Program.evaluation sums, so that the sums are the same.
        together = self._program.together
        portions = np.split(indices, range(together, len(indices), together))
        return self._dataset(lambda: (self._examples(part, chosen) for chosen in portions), part)

    def _examples(self, part: str, indices: Array) -> tuple[Array, Array]:
        x, y = (self._data.x_train, self._data.y_train) if part == "train" \
            else (self._data.x_test, self._data.y_test)
        return x[indices], y[indices]

    def _dataset(self, generator: Any, part: str) -> tf.data.Dataset:
        x, y = self._examples(part, np.arange(1))
        return tf.data.Dataset.from_generator(generator, output_signature=(
            tf.TensorSpec((None, *x.shape[1:]), x.dtype),
            tf.TensorSpec((None, *y.shape[1:]), y.dtype))).prefetch(2)


def _split(interval: Interval, example_bytes: int) -> Iterator[Interval]:
    # All pieces have one shape, whatever the interval's count, so that they compile once.
    rows, batch = interval.indices.shape
    together = max(1, min(rows, _PIECE // (batch * example_bytes)))
    for start in range(0, interval.count, together):
        indices = np.resize(interval.indices[start:start + together], (together, batch))
        yield Interval(interval.first + start, min(together, interval.count - start), indices)
