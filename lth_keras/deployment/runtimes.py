"""The runtimes that files are measured in: each loads a file, takes examples and computes outputs.

They serve `measuring_process`, a process of its own, in which only NumPy and the runtime of the
file are imported, so that nothing else adds to its memory and time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any  # core.masks.Array, which is not imported: see above.
Arrays = dict[str, Array]  # By the name of an input or output; ONLY if there is one of each.
Names = dict[str, Any]  # The "inputs", "outputs" and "takes" of a task, for several of them.
ONLY = ""


class LiteRT:
    """Runs a TF Lite file in ai-edge-litert's interpreter.

    Args:
      path: the file.
      threads: CPU threads of the interpreter.
      names: the names of inputs and outputs, or None for a file with one of each.
      delegates: whether the default delegates (XNNPACK) may run operations.

    Attributes:
      batch: how many examples a call takes; None for any number.
    """

    def __init__(self, path: str, threads: int, names: "Names | None" = None,
                 delegates: bool = True):
        from ai_edge_litert import interpreter
        kinds = interpreter.OpResolverType
        kind = kinds.AUTO if delegates else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._interpreter: Any = interpreter.Interpreter(
            path, num_threads=threads, experimental_op_resolver_type=kind)
        if names is None:
            inputs, outputs = (self._interpreter.get_input_details(),
                               self._interpreter.get_output_details())
            _check_single(inputs, outputs)
            self._inputs, self._outputs = {ONLY: inputs[0]}, {ONLY: outputs[0]}
        else:
            # By the names in the file alone: its order of inputs and outputs is not the model's.
            signature = self._interpreter.get_signature_runner()
            self._inputs, self._outputs = (signature.get_input_details(),
                                           signature.get_output_details())
            _check_named(self._inputs, self._outputs, names)
        # -1 stands for any number of examples.
        sizes = {int(size) for detail in self._interpreter.get_input_details()
                 for size in detail["shape_signature"][:1]}
        self.batch = sizes.pop() if len(sizes) == 1 and min(sizes) > 0 else None

    def give(self, examples: Arrays) -> None:
        """Sets the input batch, quantised with the file's own scale if the file takes integers."""
        # Done anew for each batch: the last one may be smaller than the others.
        for name, detail in self._inputs.items():
            self._interpreter.resize_tensor_input(detail["index"], examples[name].shape)
        self._interpreter.allocate_tensors()
        # A fused LSTM kernel would go on from the state in which the last call left it.
        self._interpreter.reset_all_variables()
        for name, detail in self._inputs.items():
            values, dtype = examples[name], detail["dtype"]
            scale, zero = detail["quantization"]
            if scale and np.issubdtype(dtype, np.integer):
                limits = np.iinfo(dtype)
                values = np.clip(np.rint(values / scale) + zero, limits.min, limits.max)
            self._interpreter.set_tensor(detail["index"], values.astype(dtype))

    def call(self) -> None:
        """Computes the outputs of the batch; this is what is timed."""
        self._interpreter.invoke()

    def outputs(self) -> Arrays:
        """Returns the outputs of the last call, as float32."""
        return {name: self._output(detail) for name, detail in self._outputs.items()}

    def _output(self, detail: "dict[str, Any]") -> Array:
        values = self._interpreter.get_tensor(detail["index"])
        scale, zero = detail["quantization"]
        if scale and np.issubdtype(values.dtype, np.integer):
            values = (values.astype(np.float32) - zero) * np.float32(scale)
        return np.asarray(values, np.float32)


class TensorFlow:
    """Runs the "serving_default" signature of a SavedModel folder in TensorFlow."""

    batch: "int | None" = None  # Any number of examples a call.

    def __init__(self, path: str, threads: int, names: "Names | None" = None):
        tf = _tensorflow(threads)
        self._convert = tf.constant
        # The object must stay alive: a signature holds its variables by weak references alone.
        self._model = tf.saved_model.load(path)
        signature = self._model.signatures["serving_default"]
        inputs = signature.structured_input_signature[1]
        self._dtypes = {name: spec.dtype.as_numpy_dtype for name, spec in inputs.items()}
        if names is None:
            _check_single(inputs, signature.structured_outputs)
            only, = inputs
            self._dtypes = {ONLY: self._dtypes[only]}
            self._function: Callable[[Any], Any] = (
                lambda batch: {ONLY: next(iter(signature(**{only: batch[ONLY]}).values()))})
        else:
            _check_named(inputs, signature.structured_outputs, names)
            self._function = lambda batch: signature(**batch)

    def give(self, examples: Arrays) -> None:
        """Sets the input batch."""
        self._batch = {name: self._convert(examples[name].astype(dtype))
                       for name, dtype in self._dtypes.items()}

    def call(self) -> None:
        """Computes the outputs of the batch; this is what is timed."""
        self._result = self._function(self._batch)

    def outputs(self) -> Arrays:
        """Returns the outputs of the last call, as float32."""
        return {name: np.asarray(values, np.float32) for name, values in self._result.items()}


class Keras(TensorFlow):
    """Runs a .keras file in tf_keras, loaded in safe mode, in a tf.function as `predict` does."""

    def __init__(self, path: str, threads: int, names: "Names | None" = None):
        tf = _tensorflow(threads)
        import tf_keras as keras
        self._convert = tf.constant
        model = keras.models.load_model(path, compile=False)
        if names is None:
            _check_single(model.inputs, model.outputs)
            names = {"inputs": [ONLY], "outputs": [ONLY], "takes": ONLY}
        self._dtypes = {name: each.dtype.as_numpy_dtype for name, each in zip(
            names["inputs"], model.inputs, strict=True)}
        call = tf.function(lambda batch: model(batch, training=False), autograph=False)
        self._function = lambda batch: dict(zip(names["outputs"], tf.nest.flatten(
            call(_packed(names["takes"], batch))), strict=True))


class Keras3:
    """Runs a .keras file in Keras 3, loaded in safe mode, compiled as `predict` does.

    The backend is the one that KERAS_BACKEND names; torch computes without gradients.
    """

    batch: "int | None" = None  # Any number of examples a call.

    def __init__(self, path: str, threads: int, names: "Names | None" = None):
        import keras
        self._keras = keras
        self._names = names or {"inputs": [ONLY], "outputs": [ONLY], "takes": ONLY}
        makers = {"tensorflow": _in_tensorflow, "jax": _in_jax, "torch": _in_torch}
        self._function = makers[keras.backend.backend()](path, threads)

    def give(self, examples: Arrays) -> None:
        """Sets the input batch."""
        self._batch = _packed(self._names["takes"], {
            name: self._keras.ops.convert_to_tensor(np.array(values))
            for name, values in examples.items()})

    def call(self) -> None:
        """Computes the outputs of the batch; this is what is timed."""
        self._result = self._function(self._batch)

    def outputs(self) -> Arrays:
        """Returns the outputs of the last call, as float32."""
        flat = [np.asarray(self._keras.ops.convert_to_numpy(each), np.float32)
                for each in self._keras.tree.flatten(self._result)]
        return dict(zip(self._names["outputs"], flat, strict=True))


def _in_tensorflow(path: str, threads: int) -> Callable[[Any], Any]:
    tf = _tensorflow(threads)
    model = _loaded(path)
    function: Callable[[Any], Any] = tf.function(
        lambda batch: model(batch, training=False), autograph=False)
    return function


def _in_jax(path: str, threads: int) -> Callable[[Any], Any]:
    import jax
    model = _loaded(path)
    weights = [[variable.value for variable in variables] for variables in (
        model.trainable_variables, model.non_trainable_variables)]
    # The weights are arguments, as in `predict`: as constants they would be compiled in.
    call = jax.jit(lambda weights, batch: model.stateless_call(
        *weights, batch, training=False)[0])
    return lambda batch: jax.block_until_ready(call(weights, batch))


def _in_torch(path: str, threads: int) -> Callable[[Any], Any]:
    import torch
    torch.set_num_threads(threads)
    model = _loaded(path)

    def call(batch: Any) -> Any:
        with torch.no_grad():
            return model(batch, training=False)
    return call


def _loaded(path: str) -> Any:
    import keras
    return keras.models.load_model(path, compile=False)


class Onnx:
    """Runs an ONNX file in onnxruntime, on the CPU."""

    batch: "int | None" = None  # Any number of examples a call.

    def __init__(self, path: str, threads: int, names: "Names | None" = None):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3  # Errors alone.
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"])
        inputs, outputs = ([each.name for each in ends] for ends in (
            self._session.get_inputs(), self._session.get_outputs()))
        if names is None:
            _check_single(inputs, outputs)
            self._inputs, self._outputs = {ONLY: inputs[0]}, {ONLY: outputs[0]}
        else:
            _check_named(inputs, outputs, names)
            self._inputs, self._outputs = ({name: name for name in ends}
                                           for ends in (inputs, outputs))

    def give(self, examples: Arrays) -> None:
        """Sets the input batch."""
        self._batch = {own: np.array(examples[name]) for name, own in self._inputs.items()}

    def call(self) -> None:
        """Computes the outputs of the batch; this is what is timed."""
        self._result = self._session.run(list(self._outputs.values()), self._batch)

    def outputs(self) -> Arrays:
        """Returns the outputs of the last call, as float32."""
        return {name: np.asarray(values, np.float32)
                for name, values in zip(self._outputs, self._result, strict=True)}


def _packed(takes: Any, tensors: "dict[str, Any]") -> Any:
    # Tensors by name in the structure that a model takes.
    if isinstance(takes, dict):
        return {key: _packed(part, tensors) for key, part in takes.items()}
    if isinstance(takes, list):
        return [_packed(part, tensors) for part in takes]
    return tensors[takes]


def _builtin(path: str, threads: int, names: "Names | None" = None) -> LiteRT:
    # The runtime without XNNPACK loads sparse int8 files, which the default one refuses.
    return LiteRT(path, threads, names, delegates=False)


# Runtime -> the function that loads a file, the module it imports, and the package it is in.
RUNTIMES: dict[str, tuple[Callable[[str, int, "Names | None"], Any], str, str]] = {
    "litert": (LiteRT, "ai_edge_litert.interpreter", "ai-edge-litert"),
    "litert_builtin": (_builtin, "ai_edge_litert.interpreter", "ai-edge-litert"),
    "keras": (Keras, "tf_keras", "tf_keras"),
    "keras3": (Keras3, "keras", "keras"),
    "onnxruntime": (Onnx, "onnxruntime", "onnxruntime"),
    "tensorflow": (TensorFlow, "tensorflow", "tensorflow"),
}


def _tensorflow(threads: int) -> Any:
    import tensorflow as tf
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


def _check_single(inputs: Any, outputs: Any) -> None:
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError("A file of one input and output is expected. "
                         f"Received: {len(inputs)} and {len(outputs)}.")


def _check_named(inputs: Any, outputs: Any, names: Names) -> None:
    # A file need not have an input that the network does not use.
    if not set(inputs) <= set(names["inputs"]) or set(outputs) != set(names["outputs"]):
        raise ValueError("A file must name its inputs and outputs as the network does. "
                         f"Received: {', '.join(inputs)} and {', '.join(outputs)}.")
