"""Held-out data: every array reaches the input or output that it is for."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from lth_keras.deployment.comparison import held_out, signature
from lth_keras.deployment.models.model_kind import Spec
from lth_keras.errors import LotteryError

SPEC = Spec((None, 2), "float32")
A, B = np.full((3, 2), 1.0), np.full((3, 2), 2.0)


def of(takes, returns="y"):
    names = tf.nest.flatten(takes)
    return signature.Signature(dict.fromkeys(names, SPEC), takes, returns)


LIST, DICT = of(["b", "a"]), of({"b": "b", "a": "a"})


@pytest.mark.parametrize(("given", "names"), [
    ([B, A], LIST), ((B, A), LIST), ({"a": A, "b": B}, LIST), ({"a": A, "b": B}, DICT),
    ({"a": A.tolist(), "b": B}, LIST)])
def test_each_array_is_at_the_input_of_its_name(given, names):
    arrays = dict(zip(names.inputs, held_out.inputs(given, names), strict=True))
    assert (arrays["a"] == 1).all() and (arrays["b"] == 2).all()
    assert arrays["a"].dtype == np.float32


def test_nested_structures_are_taken_as_they_are():
    names = of([{"k": "1_k"}, "2"])
    one, other = held_out.inputs([{"k": A}, B], names)
    assert (one == 1).all() and (other == 2).all()


@pytest.mark.parametrize(("given", "names", "said"), [
    # A list for a model that takes a dict would be a guess.
    ([B, A], DICT, r"for each input, a, b, in a dict by these names. Received: a list of 2"),
    ([B], LIST, "in a dict by these names or a list in this order. Received: a list of 1"),
    (A, LIST, r"Received: one array of shape \(3, 2\)"),
    ({"a": A, "c": B}, LIST, "Received: a dict of a, c"),
    ({"a": A, "b": B[:2]}, LIST, "the same number of examples .*Received: 2 of b, 3 of a"),
    ({"a": A, "b": B[:, :1]}, LIST, r"one example of input 'b': its shape, \(2,\). Rec.*\(3, 1\)"),
    ({"x": A}, of("y"), "a dict of x"), (A[:0], of("x"), "at least one example")])
def test_examples_that_fit_no_input_are_said(given, names, said):
    with pytest.raises(LotteryError, match=said):
        held_out.inputs(given, names)


def test_a_single_input_may_be_in_a_list_or_a_dict_or_of_plain_numbers():
    for given in (A, [A], {"x": A}, A.tolist(), tf.constant(A)):
        assert held_out.inputs(given, of("x"))[0].shape == (3, 2)


TWO = of("x", ["mean", "width"])


@pytest.mark.parametrize("given", [[np.arange(3), None], {"mean": np.arange(3)},
                                   {"mean": np.arange(3), "width": None}])
def test_an_output_may_have_no_targets(given):
    mean, width = held_out.targets(given, TWO, 3)
    assert mean.tolist() == [0, 1, 2] and width is None


def test_without_targets_there_are_none_and_one_output_needs_no_name():
    assert held_out.targets(None, TWO, 3) == [None, None]
    for given in ([0, 1, 2], np.arange(3), [np.arange(3)], {"y": np.arange(3)}, (0, 1, 2)):
        assert held_out.targets(given, of("x"), 3)[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("given", "said"), [
    (np.arange(3), r"for each output, mean, width, .*Received: one array of shape \(3,\)"),
    ({"mean": np.arange(3), "size": None}, "a dict of mean, size"),
    ([np.arange(3), np.arange(2)], r"one target for each of its 3 examples. Received: targets of "
                                   r"output 'width' of shape \(2,\)")])
def test_targets_that_fit_no_output_are_said(given, said):
    with pytest.raises(LotteryError, match=said):
        held_out.targets(given, TWO, 3)


@pytest.mark.parametrize("given", [A, [A], (A, None, None), None])
def test_data_is_a_pair(given):
    with pytest.raises(LotteryError, match=r"a pair \(x, y\)"):
        held_out.check_pair(given)


class Own(keras.Model):
    """Takes a dict and returns a list."""

    def call(self, inputs):
        return [inputs["b"] - inputs["a"], inputs["a"]]


def test_a_model_is_called_once_to_see_what_it_takes_and_returns():
    model = Own()
    held_out.build(model, {"b": B, "a": A})
    names = signature.of(model)
    assert names.takes == {"a": "a", "b": "b"} and names.returns == ["output_1", "output_2"]
    with pytest.raises(LotteryError, match="on whose first one it is called. Received: .*KeyError"):
        held_out.build(Own(), {"b": B})


def test_a_functional_model_goes_by_its_layers_and_a_dict_by_its_keys():
    x, z = keras.Input((2,), name="x"), keras.Input((2,), name="a")
    dense = keras.layers.Dense(1, name="sum")(x + z)
    assert signature.of(keras.Model([x, z], dense)).takes == ["x", "a"]
    names = signature.of(keras.Model({"k": x, "j": z}, {"out": dense}))
    assert names.outputs == ("out",) and names.takes == {"j": "j", "k": "k"}
    assert list(names.inputs) == ["j", "k"] and not names.single
