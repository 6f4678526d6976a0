"""Writes a trained model to an ONNX file, from the graph that TensorFlow computes it by.

The extra "onnx" installs tf2onnx, which translates the graph, and onnxruntime, which files are
checked in: `pip install 'lth_keras[onnx]'`.
"""

import pathlib
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.deployment.comparison import signature
from lth_keras.deployment.conversion.converters import inference
from lth_keras.deployment.models.kinds import kind_of

# The version of ONNX' operators: the newest that tf2onnx writes, and onnxruntime reads since 1.14.
OPSET = 18


def onnx_file(model: Any, path: pathlib.Path, representative: "Array | None" = None) -> None:
    """Writes an ONNX file in the network's own precision, for batches of any size.

    Inputs and outputs have the names that Keras gives them (`comparison.signature`).
    """
    import onnx
    import tf2onnx
    with kind_of(model).in_float32(model) as single:
        # tf2onnx names inputs and outputs that have no name by operations of the graph.
        function, specs = inference(single, signature.of(single), by_name=True)
        written, _ = tf2onnx.convert.from_function(
            function, input_signature=specs, opset=OPSET, custom_op_handlers={"Erfc": (_erfc, [])})
    for end in (*written.graph.input, *written.graph.output):
        size = end.type.tensor_type.shape.dim
        if size and not size[0].HasField("dim_value"):
            size[0].dim_param = "batch"
    onnx.save(written, path)


def _erfc(graph: Any, node: Any, name: str, arguments: Any) -> None:
    # The gelu of Keras 3 computes erfc, which tf2onnx does not know and ONNX has as 1 - erf.
    one = graph.make_const(f"{name}/one", np.array(1, np.float32))
    node.type = "Erf"
    minus = graph.insert_new_node_on_output("Neg", node.output[0], name=f"{name}/minus")
    graph.insert_new_node_on_output(
        "Add", minus.output[0], inputs=[minus.output[0], one.output[0]], name=f"{name}/from_one")
