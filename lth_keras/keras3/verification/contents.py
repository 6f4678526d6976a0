"""The variables and optimizers that a model of Keras 3 holds; see `search.contents`."""

import sys
from collections.abc import Iterable
from typing import Any

import keras

from lth_keras.keras3.weights import is_graph, TREE
from lth_keras.search.contents import Contents


def _variables() -> tuple[type, ...]:
    # Users' code may hold variables of TensorFlow itself.
    tensorflow = sys.modules.get("tensorflow")
    if keras.backend.backend() != "tensorflow" or tensorflow is None:
        return (keras.Variable,)
    return keras.Variable, tensorflow.Variable


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if is_graph(value):
        found: Iterable[tuple[str, Any]] = TREE.named_layers(value.layers)
        return found
    # On the torch backend, layers within a layer are among its torch modules.
    return vars(value).get("_modules", {}).items() if isinstance(value, keras.layers.Layer) else ()


CONTENTS = Contents(
    variables=_variables(),
    kinds={"optimizer": (keras.optimizers.Optimizer,), "seed": (keras.random.SeedGenerator,),
           "metric": (keras.metrics.Metric,), "loss": (keras.losses.Loss,),
           "state": (keras.layers.RNN,)},
    entered=(keras.layers.Layer, keras.losses.Loss, keras.optimizers.Optimizer,
             keras.metrics.Metric, keras.random.SeedGenerator, keras.callbacks.Callback,
             keras.optimizers.schedules.LearningRateSchedule),
    foreign=("tensorflow", "keras", "tf_keras", "jax", "jaxlib", "torch", "numpy", "builtins",
             "pandas", "absl", "lth_keras"),
    entered_names=("CompileLoss", "CompileMetrics"),
    passed_by=frozenset({
        "_inbound_nodes", "_outbound_nodes", "_tracker", "history", "train_function",
        "test_function", "predict_function", "_compile_config", "_distribute_strategy",
        "_nodes", "_nodes_by_depth", "_operations", "_operations_by_depth", "_saved_model_inputs",
        # Keras' own lists of what attributes lead to.
        "_layers", "_trainable_variables", "_non_trainable_variables", "_variables",
        "_seed_generators", "_metrics", "_modules", "_parameters", "_buffers"}),
    parts=_parts)


def stored(variable: Any) -> Any:
    """A copy of the value of a variable, of Keras or of TensorFlow itself, as an array."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return keras.ops.convert_to_numpy(value).copy()
