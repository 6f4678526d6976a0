"""Augmentation of training images, within the compiled program.

An augmentation is a function of a batch of images and three uniform random numbers for each image.
It draws nothing itself, so the program's seed determines its result.
"""

from collections.abc import Callable

import tensorflow as tf

# Images of shape (batch, height, width, ...) and draws of shape (batch, 3) in [0, 1) -> images.
Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_PADDING = 4


def none(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Returns the images unchanged.

    Example:
      >>> none(tf.zeros((2, 8, 8)), tf.zeros((2, 3))).shape
      TensorShape([2, 8, 8])
    """
    return images


def flip_crop(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Mirrors half of the images, and crops all at random after padding them with zeros.

    There are four pixels of padding on each side, and all offsets from 0 to 8 are equally likely
    (Frankle & Carbin 2019, section 4; He et al. 2016, section 4.2).

    Example:
      >>> images = tf.reshape(tf.range(128.0), (2, 8, 8))
      >>> bool(tf.reduce_all(flip_crop(images, tf.constant([[0.5, 0.5, 0.9]] * 2)) == images))
      True
    """
    edges = [[0, 0], [_PADDING] * 2, [_PADDING] * 2, [0, 0]][:images.shape.rank]
    offsets = tf.cast(draws[:, :2] * (2 * _PADDING + 1), tf.int32)
    rows = offsets[:, :1] + tf.range(images.shape[1])
    columns = offsets[:, 1:] + tf.range(images.shape[2])
    columns = tf.where(draws[:, 2:] < 0.5, columns[:, ::-1], columns)
    cropped = tf.gather(tf.pad(images, edges), rows, axis=1, batch_dims=1)
    return tf.gather(cropped, columns, axis=2, batch_dims=1)


AUGMENTATIONS: dict[str, Augmentation] = {"none": none, "flip_crop": flip_crop}
