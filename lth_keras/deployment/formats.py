"""Formats: the kinds of file that a trained network can be written as.

    keras, saved_model                    for programs with tf_keras or TensorFlow
    float32, float16                      TF Lite, with weights in that precision
    dynamic_int8, dynamic_int8_shared     int8 weights; float inputs and outputs
    int8                                  integers alone, inputs and outputs too
    ..._sparse                            the same without the zeros

A conversion that succeeds has proved nothing.  The converter keeps a kernel in blocks of four
inputs if nearly as many blocks as weights are zero: float16_sparse then computes NaN.  The
runtime's default delegates refuse int8 kernels without their zeros.  Such formats are offered
all the same, since others of their files are right, and `deployment.checks` judges what each file
computes.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import pathlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from lth_keras import quiet
from lth_keras.arguments import check_choice, one_line
from lth_keras.core.masks import Array
from lth_keras.deployment import converters
from lth_keras.deployment.converters import Conversion
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import wrappers

_LITERT = ("litert", "litert_builtin")


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
      name: by which it is asked for.
      title: what it is, in a few words.
      suffix: what its file's name ends with; empty for a folder.
      runtimes: what loads it, the first by default (`deployment.measuring`).
      route: what to do where it is refused.
      needs_representative: whether the conversion needs examples.
      rounding: the largest error of an output that its precision explains, as a share of the
        largest output; None where only accuracy can tell.
      convert: writes the file.
    """

    name: str
    title: str
    suffix: str
    runtimes: tuple[str, ...]
    route: str
    needs_representative: bool
    rounding: "float | None"
    convert: Conversion


FORMATS: dict[str, Format] = {}


def register(format_: Format) -> Format:
    """Makes a format known by its name.

    Raises:
      LotteryError: if the name is taken.
    """
    if format_.name in FORMATS:
        raise LotteryError(f"A format's name is taken once. Received: {format_.name!r} again.")
    FORMATS[format_.name] = format_
    return format_


def get(name: str) -> Format:
    """The format of a name.

    Raises:
      LotteryError: if there is none of that name; the message lists those there are.

    Example:
      >>> get("float32").suffix
      '.tflite'
    """
    check_choice("format", name, FORMATS)
    return FORMATS[name]


def convert(model: Any, name: str, path: "str | os.PathLike[str]",
            representative: "Array | None" = None) -> None:
    """Writes a model as a file, or a SavedModel as a folder; the model stays as it is.

    A conversion that fails leaves nothing, and what was there before as it was.

    Args:
      model: a built tf_keras model without wrappers (`strip_pruning`).
      name: of a format.
      path: of the file; what is there is replaced.
      representative: examples of the training set, shape (n, ...), as the model takes them, for
        the formats that need them.

    Raises:
      LotteryError: for an unknown format, a wrapped model, missing examples, or a conversion
        that fails; the message is one line.

    Example:
      >>> import tf_keras as keras, tempfile
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     convert(model, "float32", f"{folder}/model.tflite")
      ...     print(os.listdir(folder))
      ['model.tflite']
    """
    format_, path = get(name), pathlib.Path(path)
    if any(wrappers(model)):
        raise LotteryError("A model is converted without its wrappers. Received: a wrapped one. "
                           "strip_pruning(model) takes them off.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that one renaming puts the whole in place.
    with tempfile.TemporaryDirectory(prefix=".converting.", dir=path.parent) as folder:
        unfinished = pathlib.Path(folder) / f"model{format_.suffix}"
        try:
            with _quiet():
                format_.convert(model, unfinished, representative)
        except LotteryError:
            raise
        except Exception as error:  # Whatever Keras, TensorFlow or its converter raises.
            raise LotteryError(f"{name} could not be converted: {reason(error)}") from None
        if path.is_dir():
            shutil.rmtree(path)
        elif unfinished.is_dir():
            path.unlink(missing_ok=True)
        os.replace(unfinished, path)


def reason(error: BaseException) -> str:
    r"""What went wrong, in one line.

    Of the many lines of a compiler the one that says "error:" is taken, without the place in
    the graph, otherwise the first.

    Example:
      >>> reason(ValueError("<unknown>:0: error: loc(callsite(x)): 'tf.Foo' op is custom\nnote"))
      "'tf.Foo' op is custom"
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    line = next((line for line in lines if "error: " in line), lines[0])
    return one_line(re.sub(r"^.*?error: (loc\(.*?\)+: )?", "", line))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The converter writes from C++, to the process's own file handles, and through Python.
    tf.get_logger()  # Made now: it keeps the stderr that it first sees.
    with quiet.handles(1, 2), quiet.logs(logging.CRITICAL), warnings.catch_warnings(), \
            open(os.devnull, "w") as sink, \
            contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        yield


def _lite(name: str, title: str, route: str, convert_: Conversion,
          rounding: "float | None") -> None:
    register(Format(name, title, ".tflite", _LITERT, route, name.startswith("int8"), rounding,
                    convert_))


register(Format("keras", "Keras", ".keras", ("keras",),
                "saved_model holds the computation itself and needs no code of yours", False, 1e-3,
                converters.keras_file))
register(Format("saved_model", "SavedModel", "", ("tensorflow",),
                "keras needs only what Keras can save", False, 1e-3, converters.saved_model))
_lite("float32", "TF Lite float32", "saved_model runs every operation of TensorFlow",
      converters.float32, 1e-3)
_lite("float32_sparse", "TF Lite float32, sparse", "float32 holds the zeros too",
      functools.partial(converters.float32, sparse=True), 1e-3)
_lite("float16", "TF Lite float16", "float32 is exact", converters.float16, 2e-2)
_lite("float16_sparse", "TF Lite float16, sparse",
      "float32_sparse leaves out the zeros; float16 halves the weights",
      functools.partial(converters.float16, sparse=True), 2e-2)
_lite("dynamic_int8", "TF Lite dynamic-range int8", "float16 is more precise",
      converters.dynamic_int8, None)
_lite("dynamic_int8_shared", "TF Lite dynamic-range int8, 31 values a unit",
      "dynamic_int8 has all 255 values", converters.dynamic_int8_shared, None)
_lite("dynamic_int8_sparse", "TF Lite dynamic-range int8, sparse",
      "dynamic_int8 holds the zeros too, and loads by default",
      functools.partial(converters.dynamic_int8, sparse=True), None)
_lite("int8", "TF Lite int8", "dynamic_int8 finds the ranges of activations as they come",
      converters.int8, None)
_lite("int8_sparse", "TF Lite int8, sparse", "int8 holds the zeros too, and loads by default",
      functools.partial(converters.int8, sparse=True), None)
