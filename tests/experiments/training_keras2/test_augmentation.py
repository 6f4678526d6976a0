import numpy as np
import pytest
import tensorflow as tf

from lth_keras.experiments.config import config
from lth_keras.experiments.training_keras2 import augmentation
from lth_keras.experiments.training_keras2.augmentation import AUGMENTATIONS, flip_crop

SHAPES = [(5, 7), (5, 7, 3), (1, 1), (32, 32, 3)]


def distinct(count, shape, dtype=np.float32):
    """Images no two of whose pixels are equal, none of them zero."""
    return np.arange(1, 1 + count * np.prod(shape), dtype=dtype).reshape(count, *shape)


def crops(image):
    """Every image that flip_crop may make of one: bytes -> row, column, mirrored."""
    padded = np.pad(image, [(4, 4), (4, 4), (0, 0)][:image.ndim])
    height, width = image.shape[:2]
    made = {}
    for row in range(9):
        for column in range(9):
            crop = padded[row:row + height, column:column + width]
            for mirrored in (False, True):
                made[(crop[:, ::-1] if mirrored else crop).tobytes()] = row, column, mirrored
    return made


def draws(count, seed=0):
    return np.random.default_rng(seed).random((count, 3)).astype(np.float32)


def test_the_names_are_those_of_the_configuration():
    assert tuple(AUGMENTATIONS) == config.AUGMENTATIONS


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_keep_their_shape_and_type_and_the_draws_decide(name, shape, dtype):
    images = np.random.default_rng(0).integers(0, 256, (16, *shape)).astype(dtype)
    augment = AUGMENTATIONS[name]
    one, again = (augment(tf.constant(images), tf.constant(draws(16))) for _ in range(2))
    assert one.shape == images.shape and one.dtype == dtype
    assert (one.numpy() == again.numpy()).all()
    compiled = tf.function(augment, jit_compile=True)(tf.constant(images), tf.constant(draws(16)))
    assert (compiled.numpy() == one.numpy()).all()


def test_none_leaves_images_as_they_are():
    images = distinct(3, (4, 4))
    assert (augmentation.none(tf.constant(images), tf.constant(draws(3))).numpy() == images).all()


@pytest.mark.parametrize("shape", [(9, 10), (9, 10, 2)])
def test_flip_crop_gives_every_crop_of_the_padded_image_and_nothing_else(shape):
    count = 3000  # 162 kinds: one is left out with a chance of about 1e-6.
    image = distinct(1, shape)
    images = np.repeat(image, count, axis=0)
    kinds = crops(image[0])
    assert len(kinds) == 9 * 9 * 2
    made = flip_crop(tf.constant(images), tf.constant(draws(count))).numpy()
    seen = [kinds[crop.tobytes()] for crop in made]
    assert len(set(seen)) == 162
    assert abs(np.mean([mirrored for *_, mirrored in seen]) - 0.5) < 0.05


def test_every_image_of_a_batch_is_cropped_by_its_own_draws():
    images = distinct(6, (9, 9, 1))
    edges = np.array([[0, 0, 0], [0.999, 0.999, 0.999], [0.5, 0.5, 0.499], [0.5, 0.5, 0.5],
                      [0, 0.999, 0.999], [0.12, 0.99999994, 0.7]], np.float32)
    made = flip_crop(tf.constant(images), tf.constant(edges)).numpy()
    found = [crops(image)[crop.tobytes()] for image, crop in zip(images, made, strict=True)]
    assert found == [(0, 0, True), (8, 8, False), (4, 4, True), (4, 4, False), (0, 8, False),
                     (1, 8, False)]
    assert (made[3] == images[3]).all() and (made[2] == images[2][:, ::-1]).all()
