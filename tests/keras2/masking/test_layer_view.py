import collections
import contextlib

import pytest
import tf_keras as keras

from lth_keras.keras2.masking.layer_view import MaskedView, read_masked

Pair = collections.namedtuple("Pair", ["first", "second"])


class Outer(keras.layers.Layer):
    """A layer whose attributes change while it holds masked weights."""

    def __init__(self):
        super().__init__()
        self.state = "own"
        self.inner = Inner()
        self.many = [self.inner, 1]
        self.by_name = {"inner": self.inner}
        self.both = Pair(self.inner, 2)

    def read(self, prefix):
        """What a method of the layer finds."""
        return prefix + self.state

    @contextlib.contextmanager
    def mask_weights(self):
        """Stands for the wrapper, which lends masked weights."""
        for part in (self, self.inner):
            vars(part)["state"] = "masked"
        try:
            yield
        finally:
            for part in (self, self.inner):
                vars(part)["state"] = "own"


class Inner(keras.layers.Layer):
    """A layer within it."""

    def __init__(self):
        super().__init__()
        self.state = "own"

    def call(self, inputs):
        return inputs if self.state == "masked" else None


@pytest.fixture
def outer():
    return Outer()


def test_an_attribute_is_read_while_masked_weights_are_lent(outer):
    assert read_masked(outer, "state", outer.mask_weights) == "masked"
    assert outer.state == "own"


def test_a_method_runs_while_masked_weights_are_lent(outer):
    read = read_masked(outer, "read", outer.mask_weights)
    assert read("is ") == "is masked" and outer.state == "own"
    assert read.__name__ == "read" and read.__doc__ == Outer.read.__doc__


def test_a_layer_within_is_seen_in_the_same_way(outer):
    inner = read_masked(outer, "inner", outer.mask_weights)
    assert isinstance(inner, MaskedView)
    assert inner.state == "masked" and inner(3) == 3 and outer.inner(3) is None


def test_what_is_set_on_a_layer_within_is_set_on_the_layer(outer):
    read_masked(outer, "inner", outer.mask_weights).rate = 0.5
    assert outer.inner.rate == 0.5


@pytest.mark.parametrize("name, find", [
    ("many", lambda value: value[0]), ("by_name", lambda value: value["inner"]),
    ("both", lambda value: value.first)])
def test_layers_in_containers_are_seen_in_the_same_way(name, find, outer):
    found = read_masked(outer, name, outer.mask_weights)
    assert find(found).state == "masked"
    assert len(found) == len(getattr(outer, name))


def test_a_container_without_layers_is_the_layers_own(outer):
    outer.sizes = [1, 2]
    assert read_masked(outer, "sizes", outer.mask_weights) is outer.sizes


def test_what_a_layer_has_not_is_an_attribute_error(outer):
    with pytest.raises(AttributeError):
        read_masked(outer, "nothing", outer.mask_weights)
    with pytest.raises(AttributeError):
        _ = read_masked(outer, "inner", outer.mask_weights).nothing
