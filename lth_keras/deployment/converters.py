"""Converters: a trained model to one kind of file.  None of them changes the model it is given.

dynamic_int8_shared rounds weights first, so that eight bits hold them exactly and the file packs
well.  An int8 file takes a byte a weight however the weights look; what it takes compressed
depends on how many different values there are.  TensorFlow's converter scales each unit (output
channel) by its largest weight, s = max|w| / 127, so weights that lie at q * s for few whole
numbers q come through its rounding unchanged.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.core.masks import Array
from lth_keras.deployment.manifest import REPRESENTATIVE
from lth_keras.errors import LotteryError

# (model, where the file goes, representative examples or None)
Conversion = Callable[[Any, pathlib.Path, "Array | None"], None]

_SPARSE = tf.lite.Optimize.EXPERIMENTAL_SPARSITY
# Fifteen values to each side of zero: as accurate on the papers' networks as all 127, while a
# compressed byte that is not zero takes about four bits in place of seven.
VALUES = 15
_MOST_INT8 = 127


def keras_file(model: Any, path: pathlib.Path, representative: "Array | None" = None) -> None:
    """One .keras file: the network and its weights, without what training needs."""
    _copy(model).save(path)


def saved_model(model: Any, path: pathlib.Path, representative: "Array | None" = None) -> None:
    """A SavedModel folder of inference alone, its signature "serving_default"."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", _inference(model), _signature(model))
    archive.write_out(str(path))


def float32(model: Any, path: pathlib.Path, representative: "Array | None" = None,
            sparse: bool = False) -> None:
    """A TF Lite file in the network's own precision."""
    _write(_converter(model, [_SPARSE] if sparse else []), path)


def float16(model: Any, path: pathlib.Path, representative: "Array | None" = None,
            sparse: bool = False) -> None:
    """A TF Lite file with float16 weights, which runtimes without float16 compute in float32."""
    converter = _converter(model, [tf.lite.Optimize.DEFAULT] + [_SPARSE] * sparse)
    converter.target_spec.supported_types = [tf.float16]
    _write(converter, path)


def dynamic_int8(model: Any, path: pathlib.Path, representative: "Array | None" = None,
                 sparse: bool = False) -> None:
    """A TF Lite file with int8 weights, whose activations are quantised as they come."""
    _write(_converter(model, [tf.lite.Optimize.DEFAULT] + [_SPARSE] * sparse), path)


def dynamic_int8_shared(model: Any, path: pathlib.Path,
                        representative: "Array | None" = None) -> None:
    """dynamic_int8 of weights that were rounded to few levels first, so that it packs well.

    Kernels get 31 values a unit (`share_values`), biases eight bits of mantissa.

    Raises:
      LotteryError: for a model that cannot be copied, since the model given stays as it is.
    """
    copy = _copy(model)
    if copy is model:
        raise LotteryError("Weights are rounded in a copy, which a Sequential or functional model "
                           f"has. Received: a {type(model).__name__}.")
    for layer in copy._flatten_layers(include_self=False):
        for attribute, round_ in _ROUNDED.items():
            variable = getattr(layer, attribute, None)
            if isinstance(variable, tf.Variable) and variable.dtype.is_floating:
                variable.assign(round_(variable.numpy()))
    dynamic_int8(copy, path)


def int8(model: Any, path: pathlib.Path, representative: "Array | None" = None,
         sparse: bool = False) -> None:
    """A TF Lite file that computes in integers alone, its inputs and outputs int8 too.

    Accelerators and microcontrollers without floats load no other.  An input x goes in as
    round(x / scale) + zero_point, and an output q stands for (q - zero_point) * scale, with the
    numbers that the file holds for each (`get_input_details()[0]["quantization"]`).

    Args:
      model: a built model.
      path: where the file goes.
      representative: examples, shape (n, ...), by which the ranges of activations are found.
        At most 200 of them are used, evenly spaced.
      sparse: whether zeros are left out of the file.

    Raises:
      LotteryError: without representative examples.
    """
    if representative is None or not len(representative):
        raise LotteryError("int8 needs representative examples to find the ranges of activations. "
                           "Received: none. Give some hundred of the training set.")
    chosen = np.linspace(0, len(representative) - 1, min(len(representative), REPRESENTATIVE))
    examples = representative[np.rint(chosen).astype(int)]

    def batches() -> Iterator[list[Array]]:
        for example in examples:
            yield [np.asarray(example[None], np.float32)]

    converter = _converter(model, [tf.lite.Optimize.DEFAULT] + [_SPARSE] * sparse)
    converter.representative_dataset = batches
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    _write(converter, path)


def share_values(weight: Array, values: int = VALUES) -> Array:
    """A weight with few different values a unit, which int8 represents exactly.

    With s = max|w| / 127 of a unit, s to eight bits of mantissa, every weight goes to the nearest
    s * round(127 * j / values) for a whole j between -values and values.  A zero stays zero.

    Args:
      weight: floats, shape (..., units).
      values: how many values there are to each side of zero, in [1, 127].

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
    # A negative zero would be another value.
    shared = np.sign(flat) * ladder[np.searchsorted(middles, steps)] * scales + 0.0
    return shared.reshape(weight.shape).astype(weight.dtype)


def shorten(values: Array) -> Array:
    """The nearest numbers with eight bits of mantissa, as float32: half of their bytes are zero.

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
    # (height, width, channels, multiplier): an output channel is a pair of the last two.
    merged = weight.reshape(*weight.shape[:-2], -1)
    return share_values(merged).reshape(weight.shape)


_ROUNDED = {"kernel": _kernel, "pointwise_kernel": _kernel, "depthwise_kernel": _depthwise,
            "bias": shorten}


def _converter(model: Any, optimizations: list[Any]) -> Any:
    function = _inference(model).get_concrete_function(*_signature(model))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.optimizations = optimizations
    return converter


def _write(converter: Any, path: pathlib.Path) -> None:
    path.write_bytes(converter.convert())


def _inference(model: Any) -> Any:
    # Without autograph, whose generated files would stay in the folder of temporary files.
    return tf.function(functools.partial(model.__call__, training=False), autograph=False)


def _signature(model: Any) -> list[Any]:
    inputs = getattr(model, "inputs", None)
    if inputs:  # An input's name is the file's.
        specs = [tf.TensorSpec(each.shape, each.dtype, each.name.split(":")[0])
                 for each in inputs]
        return specs if len(specs) == 1 else [specs]
    spec = model.save_spec()
    if spec is None:
        raise LotteryError("A subclassed model has been called once before it is converted, so "
                           f"that its inputs are known. Received: {type(model).__name__}, which "
                           "has not.")
    return list(spec[0])


def _copy(model: Any) -> Any:
    # The same network, not compiled, so that no optimizer's state is written with it; a subclassed
    # model, which Keras cannot copy, is itself returned.
    if not isinstance(model, keras.Sequential) and not getattr(model, "_is_graph_network", False):
        return model
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
