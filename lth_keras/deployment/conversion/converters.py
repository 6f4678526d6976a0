"""Writes a trained model to a SavedModel or TF Lite file by TensorFlow; the model stays as it is.

How dynamic_int8_shared makes files that compress better: an int8 file takes one byte for each
weight, but how well it compresses depends on how many different values there are.  TensorFlow's
converter scales each unit (output channel) by its largest weight, s = max|w| / 127, and rounds
weights to q * s with a whole number q.  So weights are first rounded to q * s for few q, which the
converter's own rounding leaves as they are.
"""

import contextlib
import functools
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from lth_keras.core.masks import Array
from lth_keras.deployment.comparison import signature
from lth_keras.deployment.comparison.held_out import REPRESENTATIVE
from lth_keras.deployment.comparison.signature import Signature
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.deployment.models.model_kind import ModelKind
from lth_keras.errors import LotteryError

# Leaves zeros out of the file. LeNet-300-100 at 3.6% of its weights takes 61 kB instead of 1,066.
_SPARSE = tf.lite.Optimize.EXPERIMENTAL_SPARSITY
# Fifteen values on each side of zero: as accurate on the papers' networks as all 127, while a
# non-zero byte takes about four bits when compressed instead of seven.
VALUES = 15
_MOST_INT8 = 127


def saved_model(model: Any, path: pathlib.Path, representative: "Array | None" = None) -> None:
    """Writes a SavedModel folder for inference, with the signature "serving_default"."""
    # model.save() would also write the optimizer and the training functions.
    archive = kind_of(model).keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", *inference(model, signature.of(model)))
    archive.write_out(str(path))


def float32(model: Any, path: pathlib.Path, representative: "Array | None" = None,
            sparse: bool = False) -> None:
    """Writes a TF Lite file in the network's own precision.

    Example:
      >>> import tempfile
      >>> import tf_keras as keras
      >>> from lth_keras.quiet import everything
      >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     file = pathlib.Path(folder) / "model.tflite"
      ...     with everything():
      ...         float32(model, file)
      ...     file.read_bytes()[4:8]
      b'TFL3'
    """
    _lite(model, path, [_SPARSE] if sparse else [])


def float16(model: Any, path: pathlib.Path, representative: "Array | None" = None,
            sparse: bool = False) -> None:
    """Writes a TF Lite file with float16 weights; runtimes without float16 compute in float32."""
    # With sparse=True, LeNet-300-100 at 3.6% of its weights computes NaN in float16, without any
    # error of converter or runtime: `checks` finds such files.

    def settings(converter: Any, specs: Any) -> None:
        converter.target_spec.supported_types = [tf.float16]
    _lite(model, path, [tf.lite.Optimize.DEFAULT] + [_SPARSE] * sparse, settings)


def dynamic_int8(model: Any, path: pathlib.Path, representative: "Array | None" = None,
                 sparse: bool = False) -> None:
    """Writes a TF Lite file with int8 weights; activations are quantised at run time."""
    _lite(model, path, [tf.lite.Optimize.DEFAULT] + [_SPARSE] * sparse)


def dynamic_int8_shared(model: Any, path: pathlib.Path,
                        representative: "Array | None" = None) -> None:
    """Writes a dynamic_int8 file whose weights take few values, so that it compresses better.

    The weights of each unit are rounded to 31 values (`share_values`), biases to eight bits of
    mantissa.

    Raises:
      LotteryError: if the model is subclassed: its weights are rounded in a copy, and Keras can
        copy only Sequential and functional models.
    """
    kind = kind_of(model)
    if not kind.is_graph(model):
        raise LotteryError("The model must be Sequential or functional, since its weights are "
                           f"rounded in a copy. Received: a {type(model).__name__}.")
    with kind.in_float32(model) as single:
        copy = kind.copy(single)
    # Layers within layers too: the public `layers` does not list those.
    for layer in kind.layers(copy):
        for weight, round_ in _ROUNDED.items():
            variable = kind.variable(layer, weight)
            if variable is not None:
                kind.assign(variable, round_(kind.array(variable)))
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

    def settings(converter: Any, specs: Any) -> None:
        # Each input gets its own type: tokens are integers and are not quantised.
        def batches() -> Iterator[Any]:
            for place in order:
                if by_name is None:
                    yield [representative[place][None].astype(specs.dtype.as_numpy_dtype)]
                else:
                    yield {name: array[place][None].astype(specs[name].dtype.as_numpy_dtype)
                           for name, array in by_name.items()}
        # Without TFLITE_BUILTINS_INT8 the converter would leave operations that it cannot
        # quantise in float32, silently.
        converter.representative_dataset = batches
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    _lite(model, path, [tf.lite.Optimize.DEFAULT] + [_SPARSE] * sparse, settings, whole=True)


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
        self.held = kind_of(model).stored(model)


def inference(model: Any, names: Signature, by_name: bool = False) -> tuple[Any, list[Any]]:
    """Returns a `tf.function` that computes a model's outputs, and the specs of its arguments.

    If there are several inputs or outputs, the function takes and returns dicts by name, so that a
    file made of it has these names.

    Args:
      model: a model that TensorFlow computes.
      names: its signature.
      by_name: whether it does so with one input and output too.
    """
    single = names.single and not by_name
    # autograph=False, since autograph leaves generated files in the system's temporary folder.
    specs = {name: tf.TensorSpec(spec.shape, spec.dtype, spec.name if single else name)
             for name, spec in names.inputs.items()}
    if single:
        return tf.function(functools.partial(model.__call__, training=False), autograph=False), \
            [names.pack(specs)]

    def call(inputs: dict[str, Any]) -> dict[str, Any]:
        return names.by_name(model(names.pack(inputs), training=False))
    return tf.function(call, autograph=False), [specs]


def _lite(model: Any, path: pathlib.Path, optimizations: list[Any],
          settings: Callable[[Any, Any], None] = lambda converter, specs: None,
          whole: bool = False) -> None:
    """Writes a TF Lite file for batches of any size, or for one example a call if it must be.

    A recurrent layer's state has the size of the batch, and TensorFlow's converter must know it.
    What else cannot be converted with an unknown size is tried with a batch of one.

    Args:
      model: the model; if it computes in another precision, its float32 copy is converted.
      path: the path of the file.
      optimizations: `tf.lite.Optimize` values.
      settings: sets more of a converter, given the `tf.TensorSpec` of the input, or of each input
        by name.
      whole: whether the file computes in integers only. It may then have no loop: recurrent
        layers are unrolled. Tokens, which eight bits would round, stay whole numbers.

    Raises:
      RuntimeError: if TF Lite has no kernel for an operation; the message names it and its layer.
    """
    failures: list[Exception] = []
    kind = kind_of(model)
    if kind.unrolls:
        _check_fixed_length(model, kind)
    with kind.in_float32(model) as single:
        # Where a loop has a state, TensorFlow's converter must know the size of the batch.
        stateful = kind.loops(single) and not kind.unrolls and not whole
        for batch in (1,) if stateful else (None, 1):
            with kind.unrolled(single) if whole or kind.unrolls else contextlib.nullcontext():
                converter, specs = _converter(single, batch, kind.token_inputs(single) * whole)
            graph = converter._funcs[0].graph
            if whole:
                _check_no_loops(graph)
            converter.optimizations = optimizations
            settings(converter, specs)
            try:
                path.write_bytes(converter.convert())
                return
            except Exception as error:  # The converter raises many types.
                failures.append(_named(error, graph, single.name))
    raise failures[0]


def _named(error: Exception, graph: Any, model: str) -> Exception:
    # The converter's page of MLIR names operations, but not the layers that they are in.
    told = re.search("TF (?:Select|Custom) ops: ([^\n]+)", str(error))
    if not told:
        return error
    kinds = [kind.strip() for kind in told[1].split(",")]
    layers = dict.fromkeys(
        operation.name.removeprefix(f"{model}/").rpartition("/")[0]
        for operation in graph.get_operations() if operation.type in kinds)
    where = f", of {', '.join(layers)}" if any(layers) else ""
    return RuntimeError(f"TF Lite has no kernel for {', '.join(kinds)}{where}")


def _converter(model: Any, batch: "int | None", tokens: list[str]) -> tuple[Any, Any]:
    names = signature.of(model)
    function, arguments = inference(model, names)
    specs = tf.nest.map_structure(functools.partial(_lite_spec, batch, tokens), arguments)
    # Without names in the file its inputs and outputs could not be told apart. TensorFlow drops
    # them if it cannot save the model's own functions, so it is given the weights alone; the file
    # is the same, and made in a fraction of the time.
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function(*specs)], _Weights(model))
    return converter, tf.nest.flatten(specs)[0] if names.single else specs[0]


def _check_fixed_length(model: Any, kind: ModelKind) -> None:
    inputs = signature.of(model).inputs
    if kind.loops(model) and any(None in spec.shape[1:] for spec in inputs.values()):
        raise LotteryError(
            "TF Lite has no kernel for the loop of a recurrent layer of Keras 3, which is computed "
            "step after step instead: sequences must have a fixed length. Received: "
            f"{', '.join(f'{name} of shape {spec.shape}' for name, spec in inputs.items())}. Build "
            "the model again with keras.Input((steps, features)), and give it these weights.")


def _check_no_loops(graph: Any) -> None:
    # TensorFlow's converter ends the whole process when it calibrates a loop.
    plain = graph.as_graph_def()
    nodes = [*plain.node, *(node for each in plain.library.function for node in each.node_def)]
    for node in nodes:
        if node.op in ("While", "StatelessWhile"):
            raise LotteryError(
                "A network in int8 must have no loop, since the ranges of activations cannot be "
                f"measured within one. Received: {node.name}, a loop that cannot be unrolled.")


def _lite_spec(batch: "int | None", tokens: list[str], spec: Any) -> Any:
    # TF Lite computes in float32, whatever the precision of the numbers that Keras is given.
    shape = spec.shape if batch is None else [batch, *spec.shape[1:]]
    floating = tf.int32 if spec.name in tokens else tf.float32
    return tf.TensorSpec(shape, floating if spec.dtype.is_floating else spec.dtype, spec.name)

