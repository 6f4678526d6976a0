import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from lth_keras.errors import LotteryError
from lth_keras.experiments.training import datasets


def test_digits_are_whole_scaled_and_disjoint():
    digits = datasets.load("digits")
    assert (len(digits.y_train), len(digits.y_test)) == (1437, 360)
    assert digits.input_shape == (8, 8)
    assert digits.x_train.dtype == np.float32 and digits.y_train.dtype == np.int32
    assert digits.x_train.min() == 0 and digits.x_train.max() == 1
    assert set(digits.y_train) == set(digits.y_test) == set(range(digits.classes))
    seen = {image.tobytes() for image in digits.x_train}
    assert sum(image.tobytes() in seen for image in digits.x_test) == 0


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_data_that_is_not_there_is_one_line_that_says_how_to_get_it(name, tmp_path):
    with pytest.raises(LotteryError) as error:
        datasets.load(name, str(tmp_path))
    message = str(error.value)
    assert "\n" not in message
    assert str(tmp_path / name) in message
    assert f"tfds build {name} --data_dir {tmp_path}" in message


@pytest.mark.parametrize("name, maker, shape, more", [
    ("mnist", tfds.image_classification.MNIST, (28, 28, 1), {}),
    ("cifar10", tfds.image_classification.Cifar10, (32, 32, 3), {"id": "a"})])
def test_images_come_from_tensorflow_datasets_as_pixels(name, maker, shape, more, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, *shape)).astype(np.uint8)
    builder = maker(data_dir=str(tmp_path))
    parts = {"train": range(4), "test": range(4, 6)}
    builder._split_generators = lambda _: {
        part: ((i, {"image": images[i], "label": i, **more}) for i in examples)
        for part, examples in parts.items()}
    builder.download_and_prepare()
    found = datasets.load(name, str(tmp_path))
    assert found.classes == 10 and found.input_shape == shape and len(found.y_test) == 2
    assert found.x_train.dtype == found.x_test.dtype == np.uint8
    assert found.y_train.dtype == found.y_test.dtype == np.int32
    by_label = dict(zip(found.y_train.tolist(), found.x_train, strict=True))
    assert set(by_label) == {0, 1, 2, 3}
    for label, image in by_label.items():
        np.testing.assert_array_equal(image, images[label])


def named(name):
    """As much of a configuration as says what its data set is."""
    return types.SimpleNamespace(dataset=name, data="", data_checksum="")


def made_here(monkeypatch, fail=None):
    """tensorflow-datasets' own builder of MNIST, whose pages on the network are replaced."""
    def builder(name, data_dir=None):
        assert name == "mnist"
        made = tfds.image_classification.MNIST(data_dir=data_dir)

        def generators(manager):
            if fail:
                raise fail
            return {part: ((i, {"image": np.full((28, 28, 1), i, np.uint8), "label": i % 10})
                           for i in range(count)) for part, count in (("train", 4), ("test", 2))}
        made._split_generators = generators
        return made
    monkeypatch.setattr(tfds, "builder", builder)


@pytest.mark.parametrize("name", ["mnist", "mnist_8x8"])
def test_a_missing_data_set_is_downloaded_where_that_is_asked_for(name, tmp_path, monkeypatch):
    made_here(monkeypatch)
    said = []
    with pytest.raises(LotteryError, match=r"no .*mnist/3\.0\.1\. Give `lth run` --download"):
        datasets.require(named(name), str(tmp_path), say=said.append)
    assert not said and not (tmp_path / "mnist").exists()
    datasets.require(named(name), str(tmp_path), download=True, say=said.append)
    assert said == [f"Downloading mnist to {tmp_path}/mnist/3.0.1, by tensorflow-datasets."]
    assert len(datasets.load(name, str(tmp_path)).y_train) == 4
    datasets.require(named(name), str(tmp_path), download=True, say=said.append)  # It is there now.
    assert len(said) == 1


def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch):
    made_here(monkeypatch, ConnectionError("Max retries exceeded\n  with url: /mnist"))
    with pytest.raises(LotteryError) as error:
        datasets.require(named("mnist"), str(tmp_path), download=True, say=str)
    assert str(error.value) == (
        "mnist must be downloaded by tensorflow-datasets. Received: ConnectionError, Max retries "
        f"exceeded. Try again, or copy the folder {tmp_path}/mnist/3.0.1 from a machine that has "
        "it.")


def test_what_needs_no_download_asks_for_none(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "builder", None)
    datasets.require(named("digits"), str(tmp_path), download=True)
    with pytest.raises(LotteryError, match=r"Received: .*nowhere\.npz \(No such file"):
        datasets.require(named("mnist"), str(tmp_path / "nowhere.npz"), download=True)
    with pytest.raises(LotteryError, match="dataset must be one of digits"):
        datasets.require(named("nope"))


def test_mnist_at_the_size_of_digits_is_the_means_of_its_middle(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (5, 28, 28, 1)).astype(np.uint8), np.arange(5, dtype=np.int32)
    monkeypatch.setattr(datasets, "mnist", lambda data_dir: datasets.Data(x, y, x[:2], y[:2], 10))
    found, digits = datasets.load("mnist_8x8"), datasets.load("digits")
    assert found.input_shape == digits.input_shape and found.x_train.dtype == np.float32
    assert len(found.x_test) == 2 and (found.y_train == y).all() and found.classes == 10
    assert found.x_train[3, 2, 5] == pytest.approx(x[3, 8:11, 17:20, 0].mean() / 255)
    assert found.x_train.min() >= 0 and found.x_train.max() <= 1


def test_cifar10_at_the_size_of_digits_is_grey_means(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (5, 32, 32, 3)).astype(np.uint8), np.arange(5, dtype=np.int32)
    monkeypatch.setattr(datasets, "cifar10", lambda data_dir: datasets.Data(x, y, x[:2], y[:2], 10))
    found = datasets.load("cifar10_8x8")
    assert found.input_shape == (8, 8) and found.x_train.dtype == np.float32
    assert found.x_train[3, 2, 5] == pytest.approx(x[3, 8:12, 20:24].mean() / 255)


def test_an_unknown_data_set_lists_the_known():
    with pytest.raises(LotteryError, match="mnist_8x8, cifar10_8x8. Received: 'nope'"):
        datasets.load("nope")
