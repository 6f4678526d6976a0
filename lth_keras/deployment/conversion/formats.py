"""The file formats that a trained network can be exported to.

    keras, saved_model                    for programs with the model's own Keras, or TensorFlow
    onnx                                  ONNX in float32, of the extra "onnx"
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

import contextlib
import dataclasses
import importlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from lth_keras import quiet
from lth_keras.arguments import check_choice, one_line
from lth_keras.core.masks import Array
from lth_keras.deployment.conversion.tensorflow_process import ByTensorFlow, TensorFlowProcess
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.errors import LotteryError

# A converter takes the model, the path of the file, and representative examples or None.
Conversion = Callable[[Any, pathlib.Path, "Array | None"], None]

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
      convert: the function that writes the file; `ByTensorFlow` if TensorFlow does so, for which a
        model of another backend is loaded in a process of its own.
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
      model: a built model of Keras 3, or one of tf_keras without pruning wrappers
        (`strip_pruning`).
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
    with converter(model) as write:
        write(name, path, representative)


@contextlib.contextmanager
def converter(model: Any) -> Iterator[Callable[..., None]]:
    """Provides a function that converts a model, for a `with` block; its arguments are `convert`'s.

    A model of the JAX or torch backend is loaded once for all its files.
    """
    kind = kind_of(model)
    if kind.backend == "tensorflow":
        # Its logger keeps the sys.stderr that it first sees: made before that is replaced.
        importlib.import_module("tensorflow").get_logger()
    with contextlib.ExitStack() as stack:
        elsewhere: list[TensorFlowProcess] = []  # One at most, started when it is first needed.

        def write(name: str, path: "str | os.PathLike[str]",
                  representative: "Array | None" = None) -> None:
            format_ = get(name)
            if kind.is_wrapped(model):
                raise LotteryError(
                    "A model must have no pruning wrappers when it is converted. Received: "
                    "a wrapped model. Call strip_pruning(model) first.")
            how = format_.convert
            if isinstance(how, ByTensorFlow):
                how.check(name)
                if kind.backend != "tensorflow":
                    if not elsewhere:
                        elsewhere.append(stack.enter_context(TensorFlowProcess(model)))
                    how = elsewhere[0].conversion(how)
            _write(format_, how, model, pathlib.Path(path), representative)
        yield write


def _write(format_: Format, how: Conversion, model: Any, path: pathlib.Path,
           representative: "Array | None") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder on the same disk, so that the finished file is put in place by one rename.
    with tempfile.TemporaryDirectory(prefix=".converting.", dir=path.parent) as folder:
        unfinished = pathlib.Path(folder) / f"model{format_.suffix}"
        try:
            with quiet.everything():
                how(model, unfinished, representative)
        except LotteryError:
            raise
        except Exception as error:  # Keras, TensorFlow and the converter raise many types.
            raise LotteryError(
                f"{format_.name} could not be converted: {one_line(error)}") from None
        # os.replace cannot replace a folder that holds files, nor a file by a folder.
        if path.is_dir():
            shutil.rmtree(path)
        elif unfinished.is_dir():
            path.unlink(missing_ok=True)
        os.replace(unfinished, path)


def keras_file(model: Any, path: pathlib.Path, representative: "Array | None" = None) -> None:
    """Writes a .keras file with the network and its weights, without optimizer and loss.

    Example:
      >>> import keras
      >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     keras_file(model, pathlib.Path(folder) / "model.keras")
      ...     keras.models.load_model(f"{folder}/model.keras", compile=False).output_shape
      (None, 3)
    """
    kind_of(model).copy(model).save(path)


def runtimes(name: str, model: Any) -> tuple[str, ...]:
    """Returns the runtimes that are tried with a model's file of a format, the usual one first.

    Example:
      >>> import keras
      >>> runtimes("keras", keras.Sequential())
      ('keras3',)
    """
    return tuple(kind_of(model).runtime if each == "keras" else each
                 for each in get(name).runtimes)


_CONVERTERS = "lth_keras.deployment.conversion.converters"


def _by_tensorflow(function: str, **options: Any) -> ByTensorFlow:
    return ByTensorFlow(f"{_CONVERTERS}:{function}", options)


def _lite(name: str, title: str, routes: dict[str, str], convert_: Conversion,
          rounding: "float | None") -> None:
    # Registers a TF Lite format: all have the same suffix and runtimes.
    register(Format(name, title, ".tflite", _LITERT, routes, name.startswith("int8"), rounding,
                    convert_, in_float32=True))


register(Format("keras", "Keras", ".keras", ("keras",),
                {"saved_model": "stores the computation and loads without your Python classes"},
                False, _FLOAT32_ERROR, keras_file))
register(Format("saved_model", "SavedModel", "", ("tensorflow",),
                {"keras": "stores layers and weights and traces no graph"}, False, _FLOAT32_ERROR,
                _by_tensorflow("saved_model")))
register(Format("onnx", "ONNX", ".onnx", ("onnxruntime",),
                {"saved_model": "runs every TensorFlow operation"}, False, _FLOAT32_ERROR,
                ByTensorFlow("lth_keras.deployment.conversion.onnx_file:onnx_file",
                             packages=("tf2onnx", "onnx", "onnxruntime"), extra="onnx"),
                in_float32=True))
_lite("float32", "TF Lite float32", {"saved_model": "runs every TensorFlow operation"},
      _by_tensorflow("float32"), _FLOAT32_ERROR)
_lite("float32_sparse", "TF Lite float32, sparse", {"float32": "stores pruned weights as zeros"},
      _by_tensorflow("float32", sparse=True), _FLOAT32_ERROR)
_lite("float16", "TF Lite float16", {"float32": "is exact"}, _by_tensorflow("float16"),
      _FLOAT16_ERROR)
_lite("float16_sparse", "TF Lite float16, sparse",
      {"float32_sparse": "leaves pruned weights out", "float16": "halves the bytes of all weights"},
      _by_tensorflow("float16", sparse=True), _FLOAT16_ERROR)
_lite("dynamic_int8", "TF Lite dynamic-range int8", {"float16": "is more precise"},
      _by_tensorflow("dynamic_int8"), _ACCURACY_DECIDES)
_lite("dynamic_int8_shared", "TF Lite dynamic-range int8, 31 values a unit",
      {"dynamic_int8": "uses all 255 values"}, _by_tensorflow("dynamic_int8_shared"),
      _ACCURACY_DECIDES)
_lite("dynamic_int8_sparse", "TF Lite dynamic-range int8, sparse",
      {"dynamic_int8": "stores pruned weights as zeros and loads in the default interpreter"},
      _by_tensorflow("dynamic_int8", sparse=True), _ACCURACY_DECIDES)
_lite("int8", "TF Lite int8", {"dynamic_int8": "measures the ranges of activations at run time"},
      _by_tensorflow("int8"), _ACCURACY_DECIDES)
_lite("int8_sparse", "TF Lite int8, sparse",
      {"int8": "stores pruned weights as zeros and loads in the default interpreter"},
      _by_tensorflow("int8", sparse=True), _ACCURACY_DECIDES)
