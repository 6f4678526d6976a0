"""The variables and optimizers that a model of tf_keras holds; see `search.contents`."""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.keras2.masking.weight_names import is_graph, parts
from lth_keras.search.contents import Contents, Held

_LEGACY_OPTIMIZER: Any = keras.optimizers.legacy.Optimizer
CONTENTS = Contents(
    variables=(tf.Variable,),
    kinds={"optimizer": (keras.optimizers.Optimizer, _LEGACY_OPTIMIZER),
           "seed": (tf.random.Generator,), "metric": (keras.metrics.Metric,),
           "loss": (keras.losses.Loss,), "state": (keras.layers.RNN,)},
    entered=(keras.layers.Layer, tf.Module, keras.losses.Loss, keras.optimizers.Optimizer,
             _LEGACY_OPTIMIZER, keras.callbacks.Callback,
             tf.__internal__.tracking.AutoTrackable),
    foreign=("tensorflow", "keras", "tf_keras", "numpy", "builtins", "pandas", "absl"),
    # Three classes of Keras that hold losses, metrics and seeds derive from none of those above.
    entered_names=("LossesContainer", "MetricsContainer", "RandomGenerator"),
    passed_by=frozenset({
        "_inbound_nodes_value", "_outbound_nodes_value", "_obj_reference_counts_dict",
        "_distribution_strategy", "_layout_map", "_thread_local", "train_function",
        "test_function", "predict_function", "train_tf_function", "history", "_training_state",
        "_compile_config", "_self_unconditional_checkpoint_dependencies",
        "_self_unconditional_dependency_names", "_self_unconditional_deferred_dependencies",
        "_nested_inputs", "_nested_outputs", "_network_nodes", "_nodes_by_depth",
        "_layer_call_argspecs", "_self_tracked_trackables",
        # Keras' own counters of steps, which every `fit` resets.
        "_train_counter", "_test_counter", "_predict_counter", "_steps_per_execution"}),
    parts=lambda value: parts(value) if is_graph(value) else ())


def is_optimizer(value: Any) -> bool:
    """Whether an object is an optimizer of tf_keras, of the current or the legacy kind.

    Example:
      >>> is_optimizer(keras.optimizers.Adam()), is_optimizer(keras.optimizers.legacy.SGD())
      (True, True)
    """
    return CONTENTS.is_optimizer(value)


def contents(model: Any) -> Iterator[Held]:
    """Yields every variable and optimizer that a model holds, each once, by its shortest path.

    Args:
      model: the model.

    Example:
      >>> import types
      >>> model = keras.Sequential([keras.layers.Dense(1, name="head")])
      >>> model.build((None, 2))
      >>> model.helper = types.SimpleNamespace(counts=[tf.Variable(0)])
      >>> sorted(held.path for held in contents(model))
      ['head.bias', 'head.kernel', 'helper.counts[0]']
    """
    return CONTENTS.of(model)
