"""Augmentation of training images with Keras 3, on any backend.

An augmentation is a function of a batch of images and three uniform random numbers for each image,
as in `training_keras2.augmentation`.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

# Images of shape (batch, height, width, ...) and draws of shape (batch, 3) in [0, 1) -> images.
Augmentation = Callable[[Any, Any], Any]

_PADDING = 4


def none(images: Any, draws: Any) -> Any:
    """Returns the images unchanged.

    Example:
      >>> none(ops.zeros((2, 8, 8)), ops.zeros((2, 3))).shape == (2, 8, 8)
      True
    """
    return images


def flip_crop(images: Any, draws: Any) -> Any:
    """Mirrors half of the images, and crops all at random after padding them with zeros.

    There are four pixels of padding on each side, and all offsets from 0 to 8 are equally likely
    (Frankle & Carbin 2019, section 4; He et al. 2016, section 4.2).

    Example:
      >>> images = ops.reshape(ops.arange(128.0), (2, 8, 8))
      >>> draws = ops.convert_to_tensor([[0.5, 0.5, 0.9]] * 2)
      >>> bool(ops.all(flip_crop(images, draws) == images))
      True
    """
    height, width = images.shape[1:3]
    edges = [[0, 0], [_PADDING] * 2, [_PADDING] * 2, [0, 0]][:len(images.shape)]
    offsets = ops.cast(draws[:, :2] * (2 * _PADDING + 1), "int32")
    rows = offsets[:, :1] + ops.arange(height)
    columns = offsets[:, 1:] + ops.arange(width)
    columns = ops.where(draws[:, 2:] < 0.5, ops.flip(columns, 1), columns)
    rest = (1,) * (len(images.shape) - 3)
    cropped = ops.take_along_axis(
        ops.pad(images, edges), ops.reshape(rows, (-1, height, 1, *rest)), axis=1)
    return ops.take_along_axis(cropped, ops.reshape(columns, (-1, 1, width, *rest)), axis=2)


AUGMENTATIONS: dict[str, Augmentation] = {"none": none, "flip_crop": flip_crop}
