"""The data sets: arrays in memory, or mapped into it."""

import contextlib
import dataclasses
import io
import logging
import pathlib
from collections.abc import Callable

import numpy as np

from lth_keras import quiet
from lth_keras.arguments import check_choice
from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError

Loader = Callable[["str | None"], "Data"]

DATASETS: dict[str, Loader] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A data set for classification.

    Attributes:
      x_train, x_test: examples, shape (examples, ...): floats, which a network is given as
        they are, or uint8 pixels, which it is given divided by 255.
      y_train, y_test: int32 classes in [0, classes), shape (examples,).
      classes: number of classes.
    """

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    classes: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.x_train.shape[1:]


def scaled(examples: Array) -> Array:
    """Examples as a network is given them: pixels divided by 255.

    Example:
      >>> scaled(np.array([0, 255], np.uint8)).tolist()
      [0.0, 1.0]
    """
    return examples.astype(np.float32) / 255 if examples.dtype == np.uint8 else examples


def register(name: str) -> Callable[[Loader], Loader]:
    """Makes a data set known by name: a function (data_dir or None) -> Data."""
    def add(loader: Loader) -> Loader:
        if name in DATASETS:
            raise LotteryError(f"A data set's name is taken once. Received: {name!r} again.")
        DATASETS[name] = loader
        return loader
    return add


def load(name: str, data_dir: "str | None" = None) -> Data:
    """Loads a data set; nothing is downloaded.

    Args:
      name: a registered name: "digits", "mnist" or "cifar10".
      data_dir: where tensorflow-datasets keeps its data; by default TFDS_DATA_DIR or
        ~/tensorflow_datasets.

    Raises:
      LotteryError: for an unknown name, or data that has not been prepared; the message
        says how to get it.
    """
    check_choice("dataset", name, DATASETS)
    return DATASETS[name](data_dir)


@register("digits")
def digits(data_dir: "str | None" = None) -> Data:
    """scikit-learn's digits: 1,797 images of 8x8, every fifth of them for testing.

    Not the last fifth: the images come writer by writer, and a test of other writers than
    those of the validation examples would not measure what early stopping chose.

    Source: Alpaydin & Kaynak 1998, inside scikit-learn, so there is nothing to download.
    """
    from sklearn import datasets
    bunch = datasets.load_digits()
    x, y = (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int32)
    test = np.arange(len(y)) % 5 == 0
    return Data(x[~test], y[~test], x[test], y[test], classes=10)


@register("mnist")
def mnist(data_dir: "str | None" = None) -> Data:
    """MNIST through tensorflow-datasets: 60,000 and 10,000 images of 28x28."""
    return _from_tfds("mnist", data_dir)


@register("cifar10")
def cifar10(data_dir: "str | None" = None) -> Data:
    """CIFAR-10 through tensorflow-datasets: 50,000 and 10,000 images of 32x32x3."""
    return _from_tfds("cifar10", data_dir)


def _from_tfds(name: str, data_dir: "str | None") -> Data:
    # Its warnings about clouds that it cannot reach help nobody here.
    with quiet.logs(logging.WARNING), contextlib.redirect_stderr(io.StringIO()):
        import tensorflow_datasets as tfds
        builder = tfds.builder(name, data_dir=data_dir)
        folder = pathlib.Path(str(builder.data_path))
        if not (folder / "dataset_info.json").exists():
            where = f" --data_dir {data_dir}" if data_dir else ""
            raise LotteryError(
                f"{name} must be prepared for tensorflow-datasets before it is used. Received: "
                f"no {folder}. Run `tfds build {name}{where}` where there is a network, or name "
                "a folder that has it with --data_dir.")
        try:
            parts = tfds.as_numpy(builder.as_dataset(split=["train", "test"], batch_size=-1))
        except Exception as error:  # Whatever TensorFlow raises on missing or damaged files.
            raise LotteryError(f"{name} must be whole. Received: {folder}, which cannot be read "
                               f"({type(error).__name__}). Delete it and prepare it again."
                               ) from None
    (x_train, y_train), (x_test, y_test) = (
        (part["image"], part["label"].astype(np.int32)) for part in parts)
    return Data(x_train, y_train, x_test, y_test, builder.info.features["label"].num_classes)
