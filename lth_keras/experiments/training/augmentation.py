"""Augmentation: how training images are varied, inside the compiled program.

A function is given a batch of images and uniform numbers, three for each image, and
nothing else, so the program's seed decides everything.
"""

from collections.abc import Callable

import tensorflow as tf

# Images of shape (batch, height, width, ...) and draws of shape (batch, 3) in [0, 1) -> images.
Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_PADDING = 4


def none(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """The images as they are."""
    return images


def flip_crop(images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Mirrors half of the images, and crops each at random after padding it with zeros.

    Four pixels of padding on each side, so that every offset of 0 to 8 is as likely
    (Frankle & Carbin 2019, section 4; He et al. 2016, section 4.2).
    """
    edges = [[0, 0], [_PADDING] * 2, [_PADDING] * 2, [0, 0]][:images.shape.rank]
    offsets = tf.cast(draws[:, :2] * (2 * _PADDING + 1), tf.int32)
    rows = offsets[:, :1] + tf.range(images.shape[1])
    columns = offsets[:, 1:] + tf.range(images.shape[2])
    columns = tf.where(draws[:, 2:] < 0.5, columns[:, ::-1], columns)
    cropped = tf.gather(tf.pad(images, edges), rows, axis=1, batch_dims=1)
    return tf.gather(cropped, columns, axis=2, batch_dims=1)


AUGMENTATIONS: dict[str, Augmentation] = {"none": none, "flip_crop": flip_crop}
