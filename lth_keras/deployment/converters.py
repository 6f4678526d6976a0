"""Writes a trained model to a Keras, SavedModel or TF Lite file, without changing the model.

How dynamic_int8_shared makes files that compress better: an int8 file takes one byte for each
weight, but how well it compresses depends on how many different values there are.  TensorFlow's
converter scales each unit (output channel) by its largest weight, s = max|w| / 127, and rounds
weights to q * s with a whole number q.  So weights are first rounded to q * s for few q, which the
converter's own rounding leaves as they are.
"""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.core.masks import Array
from lth_keras.deployment.comparison import signature
from lth_keras.deployment.manifest import REPRESENTATIVE
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import stored_in

# A converter takes the model, the path of the file, and representative examples or None.
Conversion = Callable[[Any, pathlib.Path, "Array | None"], None]

# Leaves zeros out of the file. LeNet-300-100 at 3.6% of its weights takes 61 kB instead of 1,066.
_SPARSE = tf.lite.Optimize.EXPERIMENTAL_SPARSITY
# Fifteen values on each side of zero: as accurate on the papers' networks as all 127, while a
# non-zero byte takes about four bits when compressed instead of seven.
VALUES = 15
_MOST_INT8 = 127


def keras_file(model: Any, path: pathlib.Path, representative: "Array | None" = None) -> None:
    """Writes a .keras file with the network and its weights, without optimizer and loss.

    Example:
      >>> import tempfile
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     keras_file(model, pathlib.Path(folder) / "model.keras")
      ...     keras.models.load_model(f"{folder}/model.keras", compile=False).output_shape
      (None, 3)
    """
    _copy(model).save(path)


def saved_model(model: Any, path: pathlib.Path, representative: "Array | None" = None) -> None:
    """Writes a SavedModel folder for inference, with the signature "serving_default"."""
    # model.save() would also write the optimizer and the training functions.
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", *signature.inference(model, signature.of(model)))
    archive.write_out(str(path))


def float32(model: Any, path: pathlib.Path, representative: "Array | None" = None,
            sparse: bool = False) -> None:
    """Writes a TF Lite file in the network's own precision.

    Example:
      >>> import tempfile
      >>> from lth_keras.quiet import everything
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     file = pathlib.Path(folder) / "model.tflite"
      ...     with everything():
      ...         float32(model, file)
      ...     file.read_bytes()[4:8]
      b'TFL3'
    """
    _write(_converter(model, [_SPARSE] if sparse else []), path)


def float16(model: Any, path: pathlib.Path, representative: "Array | None" = None,
            sparse: bool = False) -> None:
    """Writes a TF Lite file with float16 weights; runtimes without float16 compute in float32."""
    # With sparse=True, LeNet-300-100 at 3.6% of its weights computes NaN in float16, without any
    # error of converter or runtime: `checks` finds such files.
    converter = _converter(model, [tf.lite.Optimize.DEFAULT] + [_SPARSE] * sparse)
    converter.target_spec.supported_types = [tf.float16]
    _write(converter, path)


def dynamic_int8(model: Any, path: pathlib.Path, representative: "Array | None" = None,
                 sparse: bool = False) -> None:
    """Writes a TF Lite file with int8 weights; activations are quantised at run time."""
    _write(_converter(model, [tf.lite.Optimize.DEFAULT] + [_SPARSE] * sparse), path)


def dynamic_int8_shared(model: Any, path: pathlib.Path,
                        representative: "Array | None" = None) -> None:
    """Writes a dynamic_int8 file whose weights take few values, so that it compresses better.

    The weights of each unit are rounded to 31 values (`share_values`), biases to eight bits of
    mantissa.

    Raises:
      LotteryError: if the model is subclassed: its weights are rounded in a copy, and Keras can
        copy only Sequential and functional models.
    """
    copy = _copy(model)
    if copy is model:
        raise LotteryError("The model must be Sequential or functional, since its weights are "
                           f"rounded in a copy. Received: a {type(model).__name__}. "
                           "Use dynamic_int8 instead.")
    # Layers within layers too: the public `layers` does not list those.
    for layer in copy._flatten_layers(include_self=False):
        for attribute, round_ in _ROUNDED.items():
            variable = getattr(layer, attribute, None)
            if isinstance(variable, tf.Variable) and variable.dtype.is_floating:
                variable.assign(round_(variable.numpy()))
    dynamic_int8(copy, path)


def int8(model: Any, path: pathlib.Path, representative: "Array | None" = None,
         sparse: bool = False) -> None:
    """Writes a TF Lite file that computes in integers only, with int8 inputs and outputs.

    Accelerators and microcontrollers without floating point need this format.  An input x must
    be given as round(x / scale) + zero_point, and an output q means (q - zero_point) * scale; the
    file holds scale and zero_point of both (`get_input_details()[0]["quantization"]`).

    Args:
      model: a built model.
      path: the path of the file.
      representative: training examples, shape (n, ...), on which the ranges of activations are
        measured; of a model with several inputs or outputs, the name of each input -> array. At
        most 200 of them are used, evenly spaced.
      sparse: whether pruned weights are left out of the file.

    Raises:
      LotteryError: if there are no representative examples.
    """
    by_name = representative if isinstance(representative, dict) else None
    if by_name:
        representative = next(iter(by_name.values()))
    if representative is None or not len(representative):
        raise LotteryError("int8 needs representative examples, to measure the ranges of "
                           "activations. Received: none. Give about 200 training examples as "
                           "representative.")
    chosen = np.linspace(0, len(representative) - 1, min(len(representative), REPRESENTATIVE))
    order = np.rint(chosen).astype(int)

    def batches() -> Iterator[Any]:
        for place in order:
            if by_name is None:
                yield [np.asarray(representative[place][None], np.float32)]
            else:
                yield {name: array[place][None] for name, array in by_name.items()}

    converter = _converter(model, [tf.lite.Optimize.DEFAULT] + [_SPARSE] * sparse)
    # Without TFLITE_BUILTINS_INT8 the converter would leave operations that it cannot quantise in
    # float32, silently.
    converter.representative_dataset = batches
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    _write(converter, path)


def share_values(weight: Array, values: int = VALUES) -> Array:
    """Rounds the weights of each unit to few different values that int8 represents exactly.

    With s = max|w| / 127 of a unit, rounded to eight bits of mantissa, each weight becomes the
    nearest s * round(127 * j / values) with a whole number j between -values and values.  Zero
    stays zero.

    Args:
      weight: floats, shape (..., units).
      values: how many values there are on each side of zero, in [1, 127].

    Returns:
      An array of the same shape and type.

    Example:
      >>> share_values(np.array([[1.27, 0.0], [0.5, -2.0], [-0.03, 1.0]]), values=2).round(2)
      array([[ 1.27,  0.  ],
             [ 0.64, -2.  ],
             [ 0.  ,  1.01]])
    """
    flat = weight.reshape(-1, weight.shape[-1]).astype(np.float64)
    largest = np.abs(flat).max(axis=0, initial=0)
    scales = shorten(largest / _MOST_INT8).astype(np.float64)
    ladder = np.rint(np.arange(values + 1) * _MOST_INT8 / values)
    middles = (ladder[1:] + ladder[:-1]) / 2
    steps = np.abs(flat) / np.where(scales > 0, scales, 1)
    # Adding 0.0 turns -0.0 into 0.0, which would otherwise be one more value.
    shared = np.sign(flat) * ladder[np.searchsorted(middles, steps)] * scales + 0.0
    return shared.reshape(weight.shape).astype(weight.dtype)


def shorten(values: Array) -> Array:
    """Rounds numbers to eight bits of mantissa; as float32, half of their bytes are then zero.

    Example:
      >>> shorten(np.array([0.0, 1.0, -0.1])).tolist()
      [0.0, 1.0, -0.10009765625]
    """
    mantissas, exponents = np.frexp(np.asarray(values, np.float64))
    short: Array = np.ldexp(np.rint(mantissas * 256) / 256, exponents).astype(np.float32)
    return short


def _kernel(weight: Array) -> Array:
    return share_values(weight) if weight.ndim > 1 else weight


def _depthwise(weight: Array) -> Array:
    # Shape (height, width, channels, multiplier): each pair of the last two is an output channel.
    merged = weight.reshape(*weight.shape[:-2], -1)
    return share_values(merged).reshape(weight.shape)


_ROUNDED = {"kernel": _kernel, "pointwise_kernel": _kernel, "depthwise_kernel": _depthwise,
            "bias": shorten}


class _Weights(tf.Module):
    """Holds the weights of a model, and nothing else that TensorFlow would save with them."""

    def __init__(self, model: Any):
        super().__init__()
        self.held = [stored_in(variable) for variable in model.variables]


def _converter(model: Any, optimizations: list[Any]) -> Any:
    names = signature.of(model)
    function, specs = signature.inference(model, names)
    # Without names in the file its inputs and outputs could not be told apart. TensorFlow drops
    # them if it cannot save the model's own functions, so it is given the weights alone.
    holder = model if names.single else _Weights(model)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function(*specs)], holder)
    converter.optimizations = optimizations
    return converter


def _write(converter: Any, path: pathlib.Path) -> None:
    path.write_bytes(converter.convert())


def _copy(model: Any) -> Any:
    # Returns a copy that is not compiled, so that no optimizer state is written to the file. Keras
    # cannot copy subclassed models: they are returned as they are.
    if not isinstance(model, keras.Sequential) and not getattr(model, "_is_graph_network", False):
        return model
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
