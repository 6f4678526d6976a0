"""The engine for Keras 3: trains the networks of `lth run` on any of its backends."""

import keras

from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.round_runner import RoundRunner
from lth_keras.experiments.training_keras3 import evaluator
from lth_keras.experiments.training_keras3.sparse_trainer import BranchTrainer


def start(config: Config, threads: int) -> None:
    """Prepares this process for training: the threads of TensorFlow or torch.

    JAX has been told its threads by the process's environment.

    Raises:
      LotteryError: if Keras runs on another backend already, or TensorFlow with other threads.
    """
    backend = _checked_backend(config)
    if backend == "tensorflow":
        import tensorflow as tf
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        except RuntimeError:  # TensorFlow has already started its threads.
            if tf.config.threading.get_intra_op_parallelism_threads() != threads:
                raise LotteryError("threads (--threads) must stay what this process was started "
                                   f"with. Received: {threads or 'all'}.") from None
    elif backend == "torch" and threads:
        import torch
        torch.set_num_threads(threads)


def round_runner(config: Config, data: Data, distribution: str = "none",
                 resident_mib: int = 2048, together: int | None = None) -> RoundRunner:
    """Makes the runner of a configuration's rounds.

    Args:
      config: the settings.
      data: the data set that the settings name.
      distribution: "none": networks that are trained together are shared out among all devices.
      resident_mib: the largest size of a data set that is moved to a device whole, in MiB.
      together: how many networks to train at the same time, >= 1; None to let the device decide.

    Raises:
      LotteryError: if the settings do not fit the network or the data set.
    """
    if distribution != "none":
        raise LotteryError("distribute (--distribute) must be none with engine=keras, which shares "
                           "networks that are trained together out among all devices. Received: "
                           f"{distribution}. Leave it out.")
    _checked_backend(config)
    return RoundRunner(config, data, lambda: BranchTrainer(
        config, data, resident_mib, together))


def evaluator_of(config: Config, data: Data, resident_mib: int) -> evaluator.Evaluator:
    """Makes what evaluates the test error of given weights."""
    return evaluator.Evaluator(config, data)


def _checked_backend(config: Config) -> str:
    backend = keras.backend.backend()
    if backend != config.keras_backend:
        raise LotteryError(
            "Keras must run on the backend that the settings name. Received: "
            f"keras_backend={config.keras_backend}, in a process where Keras runs on {backend}. "
            f"Set the environment variable KERAS_BACKEND={config.keras_backend} before Keras is "
            "imported.")
    return str(backend)
