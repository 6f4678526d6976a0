"""The engine for tf_keras: trains the networks of `lth run` in tfmot's pruning wrappers."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lth_keras.core.fractions import Prunable
from lth_keras.core.masks import Array, Arrays, ones
from lth_keras.core.structures.filters import groups_of
from lth_keras.core.structures.structure import Structure
from lth_keras.core.structures.words import parse
from lth_keras.costs.model_rows import ModelRows
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training.datasets import Data, scaled
from lth_keras.experiments.training.network_trainer import NetworkTrainer, OnInterval, Stopwatch
from lth_keras.experiments.training.round_runner import RoundRunner
from lth_keras.experiments.training.spec import Trained, TrainingSpec
from lth_keras.experiments.training_keras2 import data_feed, evaluator, models
from lth_keras.experiments.training_keras2.program import EVALUATED_TOGETHER
from lth_keras.experiments.training_keras2.sparse_trainer import SparseTrainer
from lth_keras.experiments.training_keras2.trainer import Trainer
from lth_keras.files import provenance
from lth_keras.graph.unit_activations import UnitActivations
from lth_keras.initial.scored_model import scored, ScoredModel
from lth_keras.keras2 import rewinding
from lth_keras.keras2.engine import structures_of
from lth_keras.keras2.loss_gradient import LossGradient
from lth_keras.keras2.masking.weight_names import masked, named_weights
from lth_keras.keras2.masking.wrap import prune_low_magnitude
from lth_keras.keras2.masking.wrap_weights import with_units
from lth_keras.keras2.model_run import TfKerasRun
from lth_keras.search import scoring


class WrappedNetworkTrainer(NetworkTrainer):
    """Trains a configuration's network as a wrapped tf_keras model.

    Args:
      config: the settings.
      data: the data set that the settings name.
      distribution: a tf.distribute.Strategy to train under. Defaults to the current one.
      resident_mib: data larger than this many MiB are streamed to the device.
      counts: how many units each group of filters keeps, of a smaller network that has no masks;
        None for the whole network.
    """

    together = 1

    def __init__(self, config: Config, data: Data,
                 distribution: "tf.distribute.Strategy | None" = None,
                 resident_mib: int = data_feed.RESIDENT_MIB,
                 counts: "Sequence[int] | None" = None):
        self._data, self._made_with = data, (config, data, distribution, resident_mib)
        self.provenance: Mapping[str, Any] = {"versions": provenance.versions()}
        with (distribution or tf.distribute.get_strategy()).scope():
            # Only the masks of filters depend on the structure; others are pruned by the runner.
            structure = parse(config.structure)
            if counts is None:
                self.model = prune_low_magnitude(
                    models.build(config, data.input_shape, data.classes),
                    structure=str(structure) if structure.coupled else None)
            else:
                self.model = models.build(config, data.input_shape, data.classes,
                                          lambda model: with_units(model, counts))
            models.compile_model(self.model, config)
        found = masked(self.model)
        self.prunable: Mapping[str, Prunable] = {
            name: item.prunable for name, item in found.items()}
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(item.weight.shape) for name, item in found.items()}
        self.structures: Mapping[str, Structure] = structures_of(
            self.model, found) if structure.coupled and found else dict.fromkeys(found, structure)
        self._gradient = LossGradient(self.model) if found else None
        self._sparse: dict[str, SparseTrainer] = {}
        self._trainer = Trainer(self.model, data, config.augmentation, resident_mib)

    def scored_model(self, weights: Arrays) -> ScoredModel:
        rewinding.assign(self.model, weights, ones(self.shapes))
        return scored(self.model)

    def smaller(self, counts: Sequence[int]) -> "WrappedNetworkTrainer":
        return WrappedNetworkTrainer(*self._made_with, counts)

    def uses(self) -> Mapping[str, float]:
        return ModelRows(TfKerasRun(self.model, None)).uses

    def initial_weights(self, rng: np.random.Generator) -> dict[str, Array]:
        return models.initial_weights(self.model, rng)

    def train(self, specs: Sequence[TrainingSpec], on_interval: OnInterval) -> list[Trained]:
        return [self._trainer_of(spec.method).train(spec, functools.partial(on_interval, place))
                for place, spec in enumerate(specs)]

    def _trainer_of(self, method: str) -> Trainer:
        # That of a sparse training is compiled when the first one comes.
        if method and method not in self._sparse:
            config, data, distribution, resident_mib = self._made_with
            with (distribution or tf.distribute.get_strategy()).scope():
                self._sparse[method] = SparseTrainer(config, data, method, resident_mib)
        return self._sparse[method] if method else self._trainer

    def stopwatch(self, spec: TrainingSpec) -> Stopwatch:
        return self._trainer.stopwatch(spec)

    def loss_gradient(self, weights: Arrays, masks: Arrays, indices: Array) -> dict[str, Array]:
        assert self._gradient is not None
        rewinding.assign(self.model, weights, masks)
        return self._gradient.mean((scaled(self._data.x_train[chosen]), self._data.y_train[chosen])
                                   for chosen in _portions(indices, EVALUATED_TOGETHER))

    def activations(self, weights: Arrays, masks: Arrays, indices: Array) -> dict[str, Array]:
        rewinding.assign(self.model, weights, masks)
        names = {id(variable): name for name, variable in named_weights(self.model).items()}
        return UnitActivations(self.model, names, groups_of(self.structures)).mean(
            scaled(self._data.x_train[chosen]) for chosen in _portions(indices, scoring.TOGETHER))


def _portions(indices: Array, size: int) -> list[Array]:
    return np.split(indices, range(size, len(indices), size))


def start(config: Config, threads: int) -> None:
    """Prepares this process for training: its threads, and the memory of GPUs.

    Raises:
      LotteryError: if TensorFlow runs with another number of threads already.
    """
    _set_threads(threads, tf.config.threading)
    # By default TensorFlow reserves all memory of a GPU, which several processes may share.
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)


def round_runner(config: Config, data: Data, distribution: Any = None,
                 resident_mib: int = data_feed.RESIDENT_MIB,
                 together: int | None = None) -> RoundRunner:
    """Makes the runner of a configuration's rounds.

    Args:
      config: the settings.
      data: the data set that the settings name.
      distribution: "mirrored", "tpu", a tf.distribute.Strategy, or None or "none" for the current
        one.
      resident_mib: data larger than this many MiB are streamed to the device.
      together: how many networks one program trains: None or 1.

    Raises:
      LotteryError: if the settings do not fit the network or the data set, or a device is missing.
    """
    if together not in (None, 1):
        raise LotteryError("together (--together) must be 1 with tf_keras, which trains one "
                           f"network in a process. Received: {together}. Use jobs (--jobs), or "
                           "engine=keras (--engine keras).")
    return RoundRunner(config, data, lambda: WrappedNetworkTrainer(
        config, data, _distribution(distribution), resident_mib))


def evaluator_of(config: Config, data: Data, resident_mib: int) -> evaluator.Evaluator:
    """Makes what evaluates the test error of given weights."""
    return evaluator.Evaluator(config, data, resident_mib)


def _set_threads(threads: int, settings: Any) -> None:
    # A cluster's worker may have trained for an earlier run, with other threads.
    before = settings.get_intra_op_parallelism_threads()
    if before == threads:
        return
    try:
        settings.set_intra_op_parallelism_threads(threads)
        settings.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # TensorFlow has already started its threads in an earlier run.
        raise LotteryError("threads (--threads) must stay what the cluster's workers were started "
                           f"with, {before or 'all'}. Received: {threads or 'all'}. Restart the "
                           "workers to change it.") from None


def _distribution(name: Any) -> Any:
    # None stands for the current strategy, which is the default device.
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        except ValueError as error:
            raise LotteryError("distribute=\"tpu\" (--distribute tpu) needs a TPU. Received: "
                               f"TensorFlow finds none ({error}).") from None
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    return None if name == "none" else name
