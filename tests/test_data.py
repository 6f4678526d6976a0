import numpy as np
import pytest
import tensorflow_datasets as tfds

from lth_keras import data
from lth_keras.errors import LotteryError


def test_digits_are_whole_scaled_and_disjoint():
    digits = data.load("digits")
    assert (len(digits.y_train), len(digits.y_test)) == (1437, 360)
    assert digits.input_shape == (8, 8)
    assert digits.x_train.dtype == np.float32 and digits.y_train.dtype == np.int32
    assert digits.x_train.min() == 0 and digits.x_train.max() == 1
    assert set(digits.y_train) == set(digits.y_test) == set(range(digits.classes))
    seen = {image.tobytes() for image in digits.x_train}
    assert sum(image.tobytes() in seen for image in digits.x_test) == 0


def test_data_that_is_not_there_is_one_line_that_says_how_to_get_it(tmp_path):
    with pytest.raises(LotteryError) as error:
        data.load("mnist", str(tmp_path))
    message = str(error.value)
    assert "\n" not in message
    assert str(tmp_path / "mnist") in message
    assert f"tfds build mnist --data_dir {tmp_path}" in message


def test_mnist_comes_from_tensorflow_datasets_as_floats(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1)).astype(np.uint8)
    builder = tfds.image_classification.MNIST(data_dir=str(tmp_path))
    parts = {"train": range(4), "test": range(4, 6)}
    builder._split_generators = lambda _: {
        name: ((i, {"image": images[i], "label": i}) for i in part)
        for name, part in parts.items()}
    builder.download_and_prepare()
    mnist = data.load("mnist", str(tmp_path))
    assert mnist.classes == 10 and mnist.x_train.shape == (4, 28, 28, 1)
    by_label = dict(zip(mnist.y_train.tolist(), mnist.x_train, strict=True))
    for label, image in by_label.items():
        np.testing.assert_allclose(image, images[label] / 255, rtol=1e-6)


def test_an_unknown_data_set_lists_the_known():
    with pytest.raises(LotteryError, match="digits, mnist. Received: 'nope'"):
        data.load("nope")
