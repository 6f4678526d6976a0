"""The compiled program: a loop of training steps, and evaluation, on examples in memory.

Both call the model's own `train_step` and `test_step`, so any compiled tf_keras model, loss,
optimizer and metrics will do.  Masks, weights and optimizer state are variables of the model; the
indices of the examples and the seed are arguments.  One compilation therefore serves every level,
branch and replicate.

A loop in one XLA program is what makes small networks fast: LeNet-300-100 trains in 0.83 ms a step
on two cores, against 1.4 to 2.5 ms in `fit` with XLA and 2.8 ms without.

Under a tf.distribute strategy the loop is the same; each replica takes its share of every batch.

Two cases run the same loop as a TensorFlow graph, without XLA: several replicas, whose
communication XLA cannot compile here, and convolutions on a CPU, which are slow in an XLA loop.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from lth_keras.errors import LotteryError
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training_keras2.augmentation import AUGMENTATIONS
from lth_keras.keras2.masking.masked_weights import fixed_masks
from lth_keras.keras2.masking.weight_names import wrappers

EVALUATED_TOGETHER = 1000  # Examples in a test step; more take memory and save no time.

Logs = dict[str, tf.Tensor]


class Batches(NamedTuple):
    """The arguments of the training loop.

    Attributes:
      indices: indices of the examples of each step, int32, shape (steps, batch_size).
      count: how many rows of `indices` to train on, int32.
      first: the number of steps trained before, int32.
      seed: the seed of augmentation, int32, shape (2,).
    """

    indices: tf.Tensor
    count: tf.Tensor
    first: tf.Tensor
    seed: tf.Tensor


class Program:
    """The compiled training and evaluation of one model.

    Args:
      model: a compiled model, built under the tf.distribute strategy that it is trained with.
      data: the data set that it is trained on.
      augmentation: the name of an augmentation, one of
        `training_keras2.augmentation.AUGMENTATIONS`.

    Attributes:
      compiled: whether XLA compiles it.
      together: the largest number of examples in a test step.

    Raises:
      LotteryError: if the augmentation is for images and the examples are not images.
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
        # Running one batch creates the metrics' variables, which cannot be created in a loop.
        trial = tf.function(self.evaluation)
        batch = (tf.constant(data.x_test[:1]), tf.constant(data.y_test[:1]),
                 tf.zeros(replicas, tf.int32))
        trial(*batch)
        graph = trial.get_concrete_function(*batch).graph.as_graph_def()
        # On a CPU, XLA's gradients of convolutions are up to a hundred times slower in a loop
        # than outside one: XLA leaves them in a form for which it has no fast code.
        on_cpu = not tf.config.list_logical_devices("GPU") + tf.config.list_logical_devices("TPU")
        self.compiled = replicas == 1 and not (on_cpu and _has_convolutions(graph))
        if replicas == 1 and not self.compiled and hasattr(model.optimizer, "jit_compile"):
            # XLA for the optimizer's update alone, which Keras turns off on a CPU.
            model.optimizer.jit_compile = True

    def function(self, part: Any) -> Any:
        """Returns a part of the program as a tf.function, compiled by XLA if `compiled` is set."""
        return tf.function(part, jit_compile=self.compiled)

    def steps(self, x: Any, y: Any, batches: Batches) -> None:
        """Trains on examples x with classes y, one batch in each step."""
        def one_step(step: tf.Tensor) -> list[tf.Tensor]:
            rows = batches.indices[step]
            draws = tf.zeros((*rows.shape, 3))
            if self._draws:
                # Depends on the seed and the step alone, so a training that starts at step k
                # augments as the dense network did after k.
                seed = tf.random.experimental.stateless_fold_in(batches.seed, batches.first + step)
                draws = tf.random.stateless_uniform(draws.shape, seed, alg="philox")
            self.distribution.run(train, (rows, draws))
            return [step + 1]

        def train(rows: tf.Tensor, draws: tf.Tensor) -> None:
            rows, draws = self._share(rows), self._share(draws)
            images = self._augment(tf.gather(x, rows), draws)
            self.model.train_step((_scaled(images), tf.gather(y, rows)))

        # Masks do not change in the loop; telling XLA so saves reading them in every step.
        # Replicas have copies of their own, which this does not handle.
        masks = [mask for wrapper in wrappers(self.model) for _, mask, _ in wrapper.pruning_vars
                 if self.distribution.num_replicas_in_sync == 1]
        with fixed_masks(masks):
            tf.while_loop(lambda step: step < batches.count, one_step, [tf.constant(0)])

    def evaluation(self, x: Any, y: Any, indices: tf.Tensor) -> None:
        """Adds examples to the model's metrics, as `evaluate` does."""
        # Shapes are known while tracing, so the rest that fills no whole portion is a call of its
        # own after the loop, and not a branch in it.
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
        """Checks that examples can be shared evenly among the replicas.

        Args:
          sizes: name -> number of examples, such as {"a batch": 60}.

        Raises:
          LotteryError: if a number is not a multiple of the number of replicas.
        """
        replicas = self.distribution.num_replicas_in_sync
        uneven = [f"{name}: {size:,}" for name, size in sizes.items() if size % replicas]
        if uneven:
            raise LotteryError(
                f"Numbers of examples must be multiples of the {replicas} replicas. Received: "
                f"{', '.join(uneven)}. Change batch_size (--set batch_size=) and validation_size "
                "(--set validation_size=), or use fewer devices.")

    def _share(self, values: tf.Tensor) -> tf.Tensor:
        # Returns this replica's share of a batch.
        replicas = self.distribution.num_replicas_in_sync
        if replicas == 1:
            return values
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.reshape(values, (replicas, -1, *values.shape[1:]))[replica]


def _has_convolutions(graph: Any) -> bool:
    # By operations, not by types of layers: a user's own layer may convolve.
    nodes = [*graph.node, *(node for function in graph.library.function
                            for node in function.node_def)]
    return any("Conv" in node.op for node in nodes)


def _scaled(examples: tf.Tensor) -> tf.Tensor:
    # Pixels are kept as bytes, a quarter of the memory of floats, and divided by 255 only here.
    return tf.cast(examples, tf.float32) / 255 if examples.dtype == tf.uint8 else examples
