"""`lth.keep_sparse`: a sparse model trains on with its zeros."""

from typing import Any

from lth_keras.files.engines import engine_of


def keep_sparse(model: Any, structure: "str | None" = None) -> Any:
    """Keeps the zeros of a sparse model in every training from now on.

    It is for a model whose zeros nothing enforces, such as one that was loaded from a file: its
    masks become what its prunable weights are, zero or not.  A model to which a ticket was
    applied, or that a search has pruned, stays sparse by itself.  Its layers do so in another model
    of Keras 3, too, which needs this only where its optimizer averages weights (use_ema=True).

    Args:
      model: a built model of Keras 3 or of tf_keras, compiled or not.
      structure: "filters" for a model whose filters were pruned: the masks are then of the filters
        that are zero, with their biases and all that hangs on them, and of no other zeros.  A
        model that has masks already keeps the structure that it has.

    Returns:
      The model of Keras 3 that was given, or the one of tf_keras wrapped, to be compiled.

    Raises:
      LotteryError: if it is not built, or has no prunable weights.

    Example:
      >>> import keras
      >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
      >>> _ = model.layers[0].kernel.assign([[0.0], [1.0]])
      >>> model.compile("sgd", "mse")
      >>> keep_sparse(model) is model
      True
      >>> history = model.fit(keras.ops.ones((4, 2)), keras.ops.zeros(4), verbose=0)
      >>> float(model.layers[0].kernel[0, 0])
      0.0
    """
    return engine_of(model).keep_sparse(model, structure)
