"""The file formats that a trained network can be exported to.

    keras, saved_model                    for programs with tf_keras or TensorFlow
    float32, float16                      TF Lite, with weights in that precision
    dynamic_int8, dynamic_int8_shared     TF Lite, int8 weights; float inputs and outputs
    int8                                  TF Lite, integers only, inputs and outputs too
    ..._sparse                            the same, with pruned weights left out of the file

A conversion without an error does not mean that the file works.  Two known problems of the
..._sparse formats: TensorFlow's converter stores some kernels in blocks of four inputs, and
float16_sparse then computes NaN; and TF Lite's default interpreter, whose default delegate is
XNNPACK, refuses to load sparse int8 kernels.  These formats are made on request only, since some
networks export well to them.  `deployment.checks` judges each file by what it computes.
"""

import dataclasses
import functools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
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
# The largest error of an output that rounding explains, as a share of the largest output.
# Sums in another order change float32 outputs by about 1e-6; 1e-3 leaves room for deep networks,
# and a wrongly converted layer is off by far more.  float16 has 11 bits of mantissa.
_FLOAT32_ERROR = 1e-3
_FLOAT16_ERROR = 2e-2
# Eight bits may change single outputs much and still predict the same: accuracy decides.
_ACCURACY_DECIDES = None


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
      name: the name that users write, such as "float16".
      title: a short description.
      suffix: the ending of the file's name; empty for a folder.
      runtimes: the runtimes that are tried, the usual one first (`deployment.measuring`).
      routes: the formats to use instead when a file of this format is refused, the best first,
        each with what speaks for it.
      needs_representative: whether the conversion needs training examples.
      rounding: the largest error of an output that this precision explains, as a share of the
        largest output; None where only accuracy can tell.
      convert: the function that writes the file.
      in_float32: whether a network that computes in another precision is converted from a
        float32 copy, so that the file is compared with what the copy computes.

    Example:
      >>> format_ = get("float16")
      >>> format_.suffix, format_.needs_representative, format_.routes
      ('.tflite', False, {'float32': 'is exact'})
    """

    name: str
    title: str
    suffix: str
    runtimes: tuple[str, ...]
    routes: dict[str, str]
    needs_representative: bool
    rounding: "float | None"
    convert: Conversion
    in_float32: bool = False


FORMATS: dict[str, Format] = {}  # In the order in which messages list them.


def register(format_: Format) -> Format:
    """Adds a format, so that `lth.export` and `lth export --formats` accept its name.

    Raises:
      LotteryError: if a format with this name is already registered.

    Example:
      >>> _ = register(dataclasses.replace(get("float32"), name="mine", title="my own"))
      >>> get("mine").title
      'my own'
      >>> del FORMATS["mine"]
    """
    if format_.name in FORMATS:
        raise LotteryError("A format must have a name that no other format has. "
                           f"Received: {format_.name!r}, which is already registered.")
    FORMATS[format_.name] = format_
    return format_


def get(name: str) -> Format:
    """Returns the format with a name.

    Raises:
      LotteryError: if no format has this name; the message lists all names.

    Example:
      >>> get("float32").suffix
      '.tflite'
    """
    check_choice("format", name, FORMATS)
    return FORMATS[name]


def route(name: str, works: Callable[[str], bool]) -> str:
    """Returns what to use instead of a format that was refused, and what speaks for it.

    Args:
      name: the refused format.
      works: tells whether a file of a format passes its checks. It is asked about the format's
        routes, then about theirs, until one works.

    Returns:
      Such as "float32 is exact"; "" if no format works.

    Example:
      >>> route("float16", lambda name: True)
      'float32 is exact'
      >>> route("float16", lambda name: name == "keras")
      'keras stores layers and weights and traces no graph'
    """
    asked, waiting = {name}, [name]
    while waiting:
        for other, merit in get(waiting.pop(0)).routes.items():
            if other in asked:
                continue
            if works(other):
                return f"{other} {merit}"
            asked.add(other)
            waiting.append(other)
    return ""


def convert(model: Any, name: str, path: "str | os.PathLike[str]",
            representative: "Array | None" = None) -> None:
    """Converts a model and writes the file (for saved_model, the folder).

    The model is not changed.  If the conversion fails, no partial file is left, and an earlier
    file at `path` stays as it was.

    Args:
      model: a built tf_keras model without pruning wrappers (`strip_pruning`).
      name: the format's name.
      path: where to write; an existing file or folder is replaced.
      representative: training examples, shape (n, ...), as the model takes them, for the formats
        that need them.

    Raises:
      LotteryError: if the format is unknown, the model is wrapped, examples are missing, or the
        conversion fails; the message is one line.

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
        raise LotteryError("A model must have no pruning wrappers when it is converted. Received: "
                           "a wrapped model. Call strip_pruning(model) first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # TensorFlow's logger keeps the sys.stderr it first sees: create it before that is replaced.
    tf.get_logger()
    # A folder on the same disk, so that the finished file is put in place by one rename.
    with tempfile.TemporaryDirectory(prefix=".converting.", dir=path.parent) as folder:
        unfinished = pathlib.Path(folder) / f"model{format_.suffix}"
        try:
            with quiet.everything():
                format_.convert(model, unfinished, representative)
        except LotteryError:
            raise
        except Exception as error:  # Keras, TensorFlow and the converter raise many types.
            raise LotteryError(f"{name} could not be converted: {one_line(error)}") from None
        # os.replace cannot replace a folder that holds files, nor a file by a folder.
        if path.is_dir():
            shutil.rmtree(path)
        elif unfinished.is_dir():
            path.unlink(missing_ok=True)
        os.replace(unfinished, path)


def _lite(name: str, title: str, routes: dict[str, str], convert_: Conversion,
          rounding: "float | None") -> None:
    # Registers a TF Lite format: all have the same suffix and runtimes.
    register(Format(name, title, ".tflite", _LITERT, routes, name.startswith("int8"), rounding,
                    convert_, in_float32=True))


register(Format("keras", "Keras", ".keras", ("keras",),
                {"saved_model": "stores the computation and loads without your Python classes"},
                False, _FLOAT32_ERROR, converters.keras_file))
register(Format("saved_model", "SavedModel", "", ("tensorflow",),
                {"keras": "stores layers and weights and traces no graph"}, False, _FLOAT32_ERROR,
                converters.saved_model))
_lite("float32", "TF Lite float32", {"saved_model": "runs every TensorFlow operation"},
      converters.float32, _FLOAT32_ERROR)
_lite("float32_sparse", "TF Lite float32, sparse", {"float32": "stores pruned weights as zeros"},
      functools.partial(converters.float32, sparse=True), _FLOAT32_ERROR)
_lite("float16", "TF Lite float16", {"float32": "is exact"}, converters.float16, _FLOAT16_ERROR)
_lite("float16_sparse", "TF Lite float16, sparse",
      {"float32_sparse": "leaves pruned weights out", "float16": "halves the bytes of all weights"},
      functools.partial(converters.float16, sparse=True), _FLOAT16_ERROR)
_lite("dynamic_int8", "TF Lite dynamic-range int8", {"float16": "is more precise"},
      converters.dynamic_int8, _ACCURACY_DECIDES)
_lite("dynamic_int8_shared", "TF Lite dynamic-range int8, 31 values a unit",
      {"dynamic_int8": "uses all 255 values"}, converters.dynamic_int8_shared, _ACCURACY_DECIDES)
_lite("dynamic_int8_sparse", "TF Lite dynamic-range int8, sparse",
      {"dynamic_int8": "stores pruned weights as zeros and loads in the default interpreter"},
      functools.partial(converters.dynamic_int8, sparse=True), _ACCURACY_DECIDES)
_lite("int8", "TF Lite int8", {"dynamic_int8": "measures the ranges of activations at run time"},
      converters.int8, _ACCURACY_DECIDES)
_lite("int8_sparse", "TF Lite int8, sparse",
      {"int8": "stores pruned weights as zeros and loads in the default interpreter"},
      functools.partial(converters.int8, sparse=True), _ACCURACY_DECIDES)
