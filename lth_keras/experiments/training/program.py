"""What is compiled: steps of training in a loop, and evaluation, on examples in memory.

Both are made of the model's own `train_step` and `test_step`, so any compiled tf_keras
model, loss, optimizer and metrics will do.  Masks, weights and optimizer are the model's
variables; the order of the examples and the seed are arguments.  One compilation
therefore serves every level, branch and replicate.

Under a tf.distribute strategy the loop is the same; each replica takes its share of
every batch.

XLA compiles all of it, but for two cases that it does not serve: replicas that talk to
each other, and convolutions on a CPU.  Those run in the same loop as a TensorFlow graph.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from lth_keras.errors import LotteryError
from lth_keras.experiments.training.augmentation import AUGMENTATIONS
from lth_keras.experiments.training.datasets import Data
from lth_keras.keras2.masking.masked_weights import fixed_masks
from lth_keras.keras2.masking.weight_names import wrappers

EVALUATED_TOGETHER = 1000  # Examples; more would need memory and gain no time.

Logs = dict[str, tf.Tensor]


class Batches(NamedTuple):
    """Which examples the program trains on, and with what random numbers.

    Attributes:
      indices: of the examples of each step, int32 of shape (steps, batch_size).
      count: how many rows of `indices` to take, int32.
      first: the number of steps before these, int32.
      seed: of all that is drawn, int32 of shape (2,).
    """

    indices: tf.Tensor
    count: tf.Tensor
    first: tf.Tensor
    seed: tf.Tensor


class Program:
    """The compiled parts of one model's training.

    Args:
      model: a compiled model, made under the strategy that it is to be trained with.
      data: what it will be trained on.
      augmentation: name of one of `experiments.training.augmentation`.

    Attributes:
      compiled: whether XLA compiles it.
      together: examples that are evaluated at once, at most.

    Raises:
      LotteryError: if the augmentation is for images and the data are none.
    """

    def __init__(self, model: Any, data: Data, augmentation: str = "none"):
        self.model = model
        self.distribution = model.distribute_strategy
        self._augment = AUGMENTATIONS[augmentation]
        self._draws = augmentation != "none"
        if self._draws and data.x_train.ndim not in (3, 4):
            raise LotteryError(f"augmentation={augmentation} needs images of shape (height, width) "
                               "or (height, width, channels). Received: examples of shape "
                               f"{data.input_shape}.")
        replicas = self.distribution.num_replicas_in_sync
        self.together = EVALUATED_TOGETHER // replicas * replicas
        # One batch through the model makes its metrics' variables, before any tracing.
        trial = tf.function(self.evaluation)
        batch = (tf.constant(data.x_test[:1]), tf.constant(data.y_test[:1]),
                 tf.zeros(replicas, tf.int32))
        trial(*batch)
        graph = trial.get_concrete_function(*batch).graph.as_graph_def()
        # XLA's gradients of convolutions are up to a hundred times slower within a loop on a
        # CPU, where it leaves them in a form that it has no fast code for.
        on_cpu = not tf.config.list_logical_devices("GPU") + tf.config.list_logical_devices("TPU")
        self.compiled = replicas == 1 and not (on_cpu and _has_convolutions(graph))
        if replicas == 1 and not self.compiled and hasattr(model.optimizer, "jit_compile"):
            model.optimizer.jit_compile = True  # Its update alone; Keras turns it off on a CPU.

    def function(self, part: Any) -> Any:
        """A part of the program as a tf.function, compiled by XLA where that can be."""
        return tf.function(part, jit_compile=self.compiled)

    def steps(self, x: Any, y: Any, batches: Batches) -> None:
        """Trains on examples x of classes y, a batch a step."""
        def one_step(step: tf.Tensor) -> list[tf.Tensor]:
            rows = batches.indices[step]
            draws = tf.zeros((*rows.shape, 3))
            if self._draws:
                seed = tf.random.experimental.stateless_fold_in(batches.seed, batches.first + step)
                draws = tf.random.stateless_uniform(draws.shape, seed, alg="philox")
            self.distribution.run(train, (rows, draws))
            return [step + 1]

        def train(rows: tf.Tensor, draws: tf.Tensor) -> None:
            rows, draws = self._share(rows), self._share(draws)
            images = self._augment(tf.gather(x, rows), draws)
            self.model.train_step((_scaled(images), tf.gather(y, rows)))

        # Replicas have masks of their own.
        masks = [mask for wrapper in wrappers(self.model) for _, mask, _ in wrapper.pruning_vars
                 if self.distribution.num_replicas_in_sync == 1]
        with fixed_masks(masks):
            tf.while_loop(lambda step: step < batches.count, one_step, [tf.constant(0)])

    def evaluation(self, x: Any, y: Any, indices: tf.Tensor) -> None:
        """Adds the examples of these indices to the model's metrics, as `evaluate` does."""
        together = min(indices.shape[0], self.together)
        whole = indices.shape[0] // together

        def test(rows: tf.Tensor) -> None:
            rows = self._share(rows)
            self.model.test_step((_scaled(tf.gather(x, rows)), tf.gather(y, rows)))

        def one_part(part: tf.Tensor) -> list[tf.Tensor]:
            rows = tf.reshape(indices[:whole * together], (whole, together))[part]
            self.distribution.run(test, (rows,))
            return [part + 1]

        tf.while_loop(lambda part: part < whole, one_part, [tf.constant(0)])
        if indices.shape[0] % together:
            self.distribution.run(test, (indices[whole * together:],))

    def check_shares(self, sizes: Mapping[str, int]) -> None:
        """Whether every replica gets as many examples as any other.

        Args:
          sizes: what is shared -> its number of examples.

        Raises:
          LotteryError: if they do not divide among the replicas.
        """
        replicas = self.distribution.num_replicas_in_sync
        uneven = [f"{name}: {size:,}" for name, size in sizes.items() if size % replicas]
        if uneven:
            raise LotteryError(
                f"Numbers of examples must divide among the replicas, here {replicas}. Received: "
                f"{', '.join(uneven)}. Change them with --set batch_size and --set "
                "validation_size, or take fewer devices.")

    def _share(self, values: tf.Tensor) -> tf.Tensor:
        # Of a batch: what this replica takes.
        replicas = self.distribution.num_replicas_in_sync
        if replicas == 1:
            return values
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.reshape(values, (replicas, -1, *values.shape[1:]))[replica]


def _has_convolutions(graph: Any) -> bool:
    nodes = [*graph.node, *(node for function in graph.library.function
                            for node in function.node_def)]
    return any("Conv" in node.op for node in nodes)


def _scaled(examples: tf.Tensor) -> tf.Tensor:
    return tf.cast(examples, tf.float32) / 255 if examples.dtype == tf.uint8 else examples
