"""How much arithmetic and memory traffic a training step needs, counted from the network.

FLOPs are those of products and convolutions, 2 a multiply-add, padding included: forward,
gradient of the weights, and gradient of the inputs, which the first layer does not need.
Normalisation, activations and the optimizer are left out: they move bytes, and are counted
there.

Bytes are what a step cannot do without if nothing stays in a cache from one pass to the next.
"""

from typing import Any

import numpy as np

from lth_keras.experiments.config.config import Config
from lth_keras.keras2.masking.weight_names import masked

_FLOAT = 4
_SLOTS = {"adam": 2, "sgd": 1}


def work(model: Any, config: Config) -> dict[str, float]:
    """The work of one step.

    Args:
      model: a wrapped, built model whose wrapped layers are dense layers and convolutions.
      config: its batch size and optimizer.

    Returns:
      flops; bytes_parameters: weights, gradients and slots read and written once each, masks
      read once as bools; bytes_activations: the outputs of the wrapped layers written and read
      once, and their gradients likewise.
    """
    forward = [2 * config.batch_size * _multiplications(item) for item in masked(model).values()]
    outputs = sum(int(np.prod(_output_shape(item))) for item in masked(model).values())
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_variables)
    prunable = sum(int(np.prod(item.weight.shape)) for item in masked(model).values())
    slots = _SLOTS[config.optimizer] if config.optimizer == "adam" or config.momentum else 0
    return {"flops": 3 * sum(forward) - forward[0],
            "bytes_parameters": 2 * (2 + slots) * _FLOAT * trained + prunable,
            "bytes_activations": 4 * _FLOAT * config.batch_size * outputs}


def _multiplications(item: Any) -> int:
    # Of one example.  A convolution's kernel is used at each place of its output.
    places = int(np.prod(_output_shape(item)[:-1]))
    return places * int(np.prod(item.weight.shape))


def _output_shape(item: Any) -> tuple[int, ...]:
    return tuple(item.wrapper.layer.output_shape[1:])
