"""The data sets of experiments, as arrays in memory or memory-mapped from a file."""

import contextlib
import dataclasses
import importlib
import io
import logging
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lth_keras import quiet
from lth_keras.arguments import check_choice, one_line
from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.experiments.training import prepared_data
from lth_keras.extras import needed_for
from lth_keras.files import data_file

Loader = Callable[["str | None"], "Data"]

DATASETS: dict[str, Loader] = {}
# Data set -> the one of tensorflow-datasets that it is made from; others need none.
_MADE_FROM: dict[str, str] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A data set for classification.

    Attributes:
      x_train, x_test: examples, shape (examples, ...). Floats are given to a network as they
        are; uint8 pixels are divided by 255 first.
      y_train, y_test: int32 classes in [0, classes), shape (examples,).
      classes: the number of classes.

    Example:
      >>> data = load("digits")
      >>> data.input_shape, len(data.y_train), len(data.y_test)
      ((8, 8), 1437, 360)
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
    """Converts examples to a network's inputs: uint8 pixels are divided by 255.

    Example:
      >>> scaled(np.array([0, 255], np.uint8)).tolist()
      [0.0, 1.0]
    """
    return examples.astype(np.float32) / 255 if examples.dtype == np.uint8 else examples


def register(name: str, made_from: str = "") -> Callable[[Loader], Loader]:
    """Decorates a function (data_dir or None) -> Data, so that settings accept its name.

    Args:
      name: the name of the data set.
      made_from: the name in tensorflow-datasets of the data set that the function reads, if any:
        where that is missing, a run says so before it starts, and can download it.

    Raises:
      LotteryError: if a data set with this name is already registered.

    Example:
      >>> @register("zeros")
      ... def zeros(data_dir=None):
      ...     x, y = np.zeros((10, 4), np.float32), np.zeros(10, np.int32)
      ...     return Data(x, y, x, y, classes=2)
      >>> load("zeros").input_shape
      (4,)
      >>> del DATASETS["zeros"]
    """
    def add(loader: Loader) -> Loader:
        if name in DATASETS:
            raise LotteryError("A data set must have a name that no other data set has. Received: "
                               f"{name!r}, which is already registered.")
        DATASETS[name] = loader
        if made_from:
            _MADE_FROM[name] = made_from
        return loader
    return add


def of(config: Any, data_dir: "str | None" = None) -> Data:
    """Loads the data set of a configuration: by its name, or the user's own file.

    Args:
      config: the settings dataset, data and data_checksum are used.
      data_dir: see `load`; of a user's own data, the file, if it is not where it was.

    Raises:
      LotteryError: if it is missing, or the file is another than that the run began with.
    """
    if not config.data_checksum:
        return load(config.dataset, data_dir)
    arrays = data_file.read(_own_file(config, data_dir), config.data_checksum)
    return Data(**arrays, classes=int(arrays["y_train"].max()) + 1)


def _own_file(config: Any, data_dir: "str | None") -> str:
    file: str = data_dir if data_dir and data_dir.endswith(".npz") else config.data
    if not file:
        raise LotteryError(f"The file of {config.dataset} must be given where its run's workdir is "
                           "not. Received: none. Name it with data_dir (--data_dir NAME.npz).")
    return file


def load(name: str, data_dir: "str | None" = None) -> Data:
    """Loads a data set, without downloading anything.

    Args:
      name: the name of a registered data set, such as "digits", "mnist" or "cifar10".
      data_dir: the folder of tensorflow-datasets; or a file that `lth data prepare` wrote, or a
        folder with such a file NAME.npz. Defaults to TFDS_DATA_DIR, or ~/tensorflow_datasets.

    Raises:
      LotteryError: if the name is unknown, or the data has not been prepared; the message says how
        to prepare it.

    Example:
      >>> load("digits").classes
      10
    """
    check_choice("dataset", name, DATASETS)
    return DATASETS[name](data_dir)


@register("digits")
@needed_for("The data set digits")
def digits(data_dir: "str | None" = None) -> Data:
    """Loads scikit-learn's digits: 1,797 images of 8x8 pixels; every fifth is a test example.

    The data are part of scikit-learn (Alpaydin & Kaynak 1998), so nothing is downloaded.
    """
    # Not the last fifth for testing: images are ordered by writer, and a test set of other writers
    # than the validation set's would not measure what early stopping optimises.
    from sklearn import datasets
    bunch = datasets.load_digits()
    x, y = (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int32)
    test = np.arange(len(y)) % 5 == 0
    return Data(x[~test], y[~test], x[test], y[test], classes=10)


@register("mnist", "mnist")
def mnist(data_dir: "str | None" = None) -> Data:
    """Loads MNIST: 60,000 and 10,000 images of 28x28 pixels."""
    return _from_tfds("mnist", data_dir)


@register("cifar10", "cifar10")
def cifar10(data_dir: "str | None" = None) -> Data:
    """Loads CIFAR-10: 50,000 and 10,000 images of 32x32x3."""
    return _from_tfds("cifar10", data_dir)


@register("mnist_8x8", "mnist")
def mnist_8x8(data_dir: "str | None" = None) -> Data:
    """Loads MNIST at the size of `digits`: means of 3x3 pixels of the middle 24x24, in [0, 1].

    A network for one of the two takes the other, so that tickets can be transferred between them.
    """
    whole = mnist(data_dir)
    small = [np.asarray(x).reshape(-1, 28, 28)[:, 2:26, 2:26].reshape(-1, 8, 3, 8, 3).mean(
        (2, 4), dtype=np.float32) / 255 for x in (whole.x_train, whole.x_test)]
    return dataclasses.replace(whole, x_train=small[0], x_test=small[1])


@register("cifar10_8x8", "cifar10")
def cifar10_8x8(data_dir: "str | None" = None) -> Data:
    """Loads CIFAR-10 at the size of `digits`: means of 4x4 pixels and the three colours, in [0, 1].

    Its classes can hardly be told at this size: it is another task for the same network.
    """
    whole = cifar10(data_dir)
    small = [np.asarray(x).reshape(-1, 8, 4, 8, 4, 3).mean((2, 4, 5), dtype=np.float32) / 255
             for x in (whole.x_train, whole.x_test)]
    return dataclasses.replace(whole, x_train=small[0], x_test=small[1])


def require(config: Any, data_dir: "str | None" = None, download: bool = False,
            say: Callable[[str], None] = print) -> None:
    """Checks that a configuration's data set can be loaded, within a second, without TensorFlow.

    Args:
      config: the settings.
      data_dir: see `of`.
      download: whether to let tensorflow-datasets download the data set if it is missing.
      say: called with a line before that.

    Raises:
      LotteryError: if it is missing, or cannot be downloaded; the message says what to do.
    """
    if config.data_checksum:
        data_file.read(_own_file(config, data_dir), config.data_checksum)
    else:
        _require(config.dataset, data_dir, download, say)


def download(name: str, data_dir: "str | None" = None, say: Callable[[str], None] = print) -> None:
    """Lets tensorflow-datasets download a data set that is missing.

    Args:
      name: the name of a registered data set.
      data_dir: see `load`.
      say: called with a line before that.

    Raises:
      LotteryError: if it cannot be downloaded.

    Example:
      >>> download("digits")  # Which is part of scikit-learn.
    """
    _require(name, data_dir, True, say)


def _require(name: str, data_dir: "str | None", fetch: bool, say: Callable[[str], None]) -> None:
    check_choice("dataset", name, DATASETS)
    if name not in _MADE_FROM:
        return
    source = _MADE_FROM[name]
    prepared = prepared_data.find(source, data_dir)
    if prepared is not None:
        prepared_data.check_there(prepared, source)
        return
    with _unworried():
        builder = _builder(source, data_dir)
    if not _is_prepared(builder):
        if not fetch:
            raise _missing(source, builder, data_dir)
        say(f"Downloading {source} to {builder.data_path}, by tensorflow-datasets.")
        _download(source, builder)


def _from_tfds(name: str, data_dir: "str | None") -> Data:
    prepared = prepared_data.find(name, data_dir)
    if prepared is not None:
        arrays = prepared_data.read(prepared, name)
        return Data(**arrays, classes=int(arrays["y_train"].max()) + 1)
    with _unworried():
        builder = _builder(name, data_dir)
        if not _is_prepared(builder):
            raise _missing(name, builder, data_dir)
        try:
            parts = importlib.import_module("tensorflow_datasets").as_numpy(
                builder.as_dataset(split=["train", "test"], batch_size=-1))
        except Exception as error:  # Missing or damaged files raise errors of many types.
            raise LotteryError(f"{name} must be readable. Received: {builder.data_path}, which "
                               f"cannot be read ({type(error).__name__}). Delete it and prepare it "
                               "again.") from None
    (x_train, y_train), (x_test, y_test) = (
        (part["image"], part["label"].astype(np.int32)) for part in parts)
    return Data(x_train, y_train, x_test, y_test, builder.info.features["label"].num_classes)


@contextlib.contextmanager
def _unworried() -> Iterator[None]:
    # tensorflow-datasets warns about clouds that cannot be reached.
    with quiet.logs(logging.WARNING), contextlib.redirect_stderr(io.StringIO()):
        yield


def _builder(name: str, data_dir: "str | None") -> Any:
    return _tensorflow_datasets(name).builder(name, data_dir=data_dir)


def _is_prepared(builder: Any) -> bool:
    # Without a network, tfds.load("mnist") retries for more than three minutes and then prints a
    # hundred lines of traceback. A user should get one clear line at once.
    return (pathlib.Path(str(builder.data_path)) / "dataset_info.json").exists()


def _missing(name: str, builder: Any, data_dir: "str | None") -> LotteryError:
    where = f" --data_dir {data_dir}" if data_dir else ""
    return LotteryError(
        f"{name} must be prepared for tensorflow-datasets before it is used. Received: no "
        f"{builder.data_path}. Give `lth run` --download (lth.run: download=True) to download it "
        f"there, run `tfds build {name}{where}` on a machine with a network, or name the folder "
        "that has it with data_dir (--data_dir).")


def _download(name: str, builder: Any) -> None:
    with quiet.loading():
        importlib.import_module("tensorflow")  # Which tensorflow-datasets imports late, and loudly.
    try:
        builder.download_and_prepare()
    except Exception as error:  # No network, a full disk, a page that moved: of many types.
        why = one_line(error).rstrip(".")
        raise LotteryError(f"{name} must be downloaded by tensorflow-datasets. Received: "
                           f"{type(error).__name__}, {why}. Try again, or copy the folder "
                           f"{builder.data_path} from a machine that has it.") from None


def _tensorflow_datasets(name: str) -> Any:
    try:
        return importlib.import_module("tensorflow_datasets")
    except ImportError:
        raise LotteryError(
            f"{name} must be given where tensorflow-datasets is not installed. Received: no file. "
            f"Write one elsewhere with `lth data prepare {name} --out {name}.npz`, and name it "
            "with data_dir (--data_dir).") from None
