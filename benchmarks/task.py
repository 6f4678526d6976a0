"""What every contender trains: the same examples, masks and sizes; NumPy alone.

`python -m benchmarks.task NAME FILE` writes a task's examples to FILE, once for all
contenders, so that none is timed or refused for how it would have read them.
"""

import dataclasses
import sys
from collections.abc import Iterator

import numpy as np

BATCH = 60
VALIDATION = 5_000  # Examples.
VALIDATION_EVERY = 100  # Steps.
DENSITY = 0.2


@dataclasses.dataclass(frozen=True)
class Task:
    """A network on a data set.

    Attributes:
      title: what tables call it.
      network, dataset: their names in the package.
      learning_rate: Adam's.
      shape: of one example.
      kernels: kernel name -> shape, in the order of the layers.
      interval: steps in one compiled interval of the loops.
      intervals: how many of them are timed.
      examples: training examples, drawn from the whole data set.
      validation: examples validated in an interval; the time is scaled to VALIDATION.
      epoch: steps in one epoch of `fit`.
      steps_per_execution: of `fit`, where it is compiled by XLA.
      threads: what the loops are timed with; 0 is the framework's default.
    """

    title: str
    network: str
    dataset: str
    learning_rate: float
    shape: tuple[int, ...]
    kernels: dict[str, tuple[int, ...]]
    interval: int
    intervals: int
    examples: int
    validation: int
    epoch: int
    steps_per_execution: int
    threads: tuple[int, ...]

    def quick(self) -> "Task":
        """The task with as few steps as show that everything runs."""
        epoch = min(self.epoch, self.steps_per_execution, 100)
        return dataclasses.replace(self, intervals=2, epoch=epoch, steps_per_execution=epoch)


TASKS = {
    "lenet": Task(
        "LeNet-300-100 on MNIST, batch 60", "lenet_300_100", "mnist", 1.2e-3, (28, 28, 1),
        {"fc1": (784, 300), "fc2": (300, 100), "fc3": (100, 10)},
        interval=100, intervals=30, examples=45_000, validation=5_000,
        epoch=500, steps_per_execution=100, threads=(0, 1)),
    # A step takes hundreds of times as long, so that few of them tell as much.
    "conv2": Task(
        "Conv-2 on CIFAR-10, batch 60", "conv2", "cifar10", 2e-4, (32, 32, 3),
        {"conv1": (3, 3, 3, 64), "conv2": (3, 3, 64, 64), "fc1": (16384, 256),
         "fc2": (256, 256), "fc3": (256, 10)},
        interval=10, intervals=4, examples=1_000, validation=1_000,
        epoch=6, steps_per_execution=6, threads=(0,)),
}
# For the sweep over widths, the widest of which takes ten times as long.
TASKS["wide"] = dataclasses.replace(TASKS["lenet"], intervals=6, validation=1_000)

# Whole epochs, for what happens once in each.
TASKS["epochs"] = dataclasses.replace(TASKS["lenet"], epoch=900)


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker is asked for: a task, in so many threads (0: all cores), so wide.

    Attributes:
      task: what to train.
      x, y: uint8 examples and int32 classes.
      threads: 0 for the framework's default.
      width: factor on the hidden layers' units; LeNet-300-100 only.
    """

    task: Task
    x: np.ndarray
    y: np.ndarray
    threads: int
    width: float

    @property
    def train(self) -> np.ndarray:
        """Indices of the training examples."""
        rng = np.random.default_rng(3)
        rest = np.arange(VALIDATION, len(self.y))
        return np.sort(rng.permutation(rest)[:self.task.examples]).astype(np.int32)

    def intervals(self) -> Iterator[np.ndarray]:
        """Indices of each interval's batches: (interval, batch), epoch after epoch."""
        rng, size, train = np.random.default_rng(2), self.task.interval * BATCH, self.train
        waiting = np.empty(0, np.int32)
        while True:
            while len(waiting) < size:
                waiting = np.concatenate([waiting, rng.permutation(train)])
            taken, waiting = np.split(waiting, [size])
            yield taken.reshape(self.task.interval, BATCH)


def masks(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Masks at random that keep about a fifth of the weights."""
    rng = np.random.default_rng(1)
    return {name: (rng.random(shape) < DENSITY).astype(np.uint8)
            for name, shape in shapes.items()}


def kernels(task: Task) -> dict[str, np.ndarray]:
    """Glorot normal kernels, zero where the masks are."""
    rng, kept = np.random.default_rng(0), masks(task.kernels)
    drawn = {}
    for name, shape in task.kernels.items():
        field = int(np.prod(shape[:-2]))
        scale = np.sqrt(2 / (field * (shape[-2] + shape[-1])))
        drawn[name] = (rng.normal(0, scale, shape) * kept[name]).astype(np.float32)
    return drawn


def prepare(name: str, file: str) -> str:
    """Writes a task's examples, and says what they are: a data set's name, or random pixels."""
    from lth_keras.errors import LotteryError
    from lth_keras.experiments.training import datasets
    task = TASKS[name]
    try:
        examples = datasets.load(task.dataset)
        x, y, kind = examples.x_train, examples.y_train, task.dataset
    except LotteryError:
        rng, count = np.random.default_rng(0), 55_000
        x = rng.integers(0, 256, (count, *task.shape), np.uint8)
        y, kind = rng.integers(0, 10, count, np.int32), "random pixels"
    if x.dtype != np.uint8:
        x = np.round(x * 255).astype(np.uint8)
    np.savez(file, x=x, y=y)
    return kind


if __name__ == "__main__":
    print(prepare(*sys.argv[1:]))
