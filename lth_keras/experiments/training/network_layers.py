"""The layers that the papers' networks are made of, for either Keras."""

from typing import Any


def dense(keras: Any, units: int, name: str, activation: "str | None" = "relu",
          **options: Any) -> Any:
    """A dense layer; one without activation makes logits.

    Example:
      >>> import tf_keras
      >>> dense(tf_keras, 10, "fc", activation=None).dtype
      'float32'
    """
    options.setdefault("kernel_initializer", "glorot_normal")
    # Logits are float32 also under mixed precision: float16 loses too much of a softmax.
    return keras.layers.Dense(units, activation, name=name,
                              dtype=None if activation else "float32", **options)


def conv(keras: Any, filters: int, size: int, name: str, **options: Any) -> Any:
    """A convolution over images, padded with zeros so that it keeps their size.

    Example:
      >>> import tf_keras
      >>> conv(tf_keras, 64, 3, "conv1", activation="relu").padding
      'same'
    """
    options = {"padding": "same", "kernel_initializer": "glorot_normal", **options}
    return keras.layers.Conv2D(filters, size, name=name, **options)


def classifier(keras: Any, units: tuple[int, ...], classes: int, dropout: float) -> list[Any]:
    """Layers from features of any shape through hidden dense layers fc1, fc2, ... to logits.

    Args:
      keras: the package that makes them.
      units: the number of units of each hidden layer.
      classes: the number of logits.
      dropout: the share of the hidden units that a training step drops, in [0, 1).

    Example:
      >>> import tf_keras
      >>> [layer.name for layer in classifier(tf_keras, (300, 100), 10, 0.0)[1:]]
      ['fc1', 'fc2', 'fc3']
    """
    layers = [keras.layers.Flatten()]
    for number, size in enumerate(units, start=1):
        layers.append(dense(keras, size, f"fc{number}"))
        if dropout:
            layers.append(keras.layers.Dropout(dropout, name=f"fc{number}_dropout"))
    return [*layers, dense(keras, classes, f"fc{len(units) + 1}", activation=None)]
