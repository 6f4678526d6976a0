import pytest

from lth_keras.files.json_checks import ANYTHING, is_of, is_whole, misfits, NUMBER


@pytest.mark.parametrize(("value", "shape", "fits"), [
    (1, int, True), (True, int, False), (1, ANYTHING, True), (None, None, True), (0, None, False),
    (1.5, NUMBER, True), ("1", NUMBER, False), (None, (None, int), True), (-1, is_whole, False),
    ([], [int], True), ([1, 2], [int], True), ([1, "2"], [int], False), ({}, [int], False),
    ([0.5, 4], [NUMBER, is_whole], True), ([0.5, 4.5], [NUMBER, is_whole], False),
    ([0.5], [NUMBER, is_whole], False), ([0.5, 4, 4], [NUMBER, is_whole], False),
    ("ab", [str, str], False), ({"a": 1, "b": 2}, {str: int}, True), ({"a": ""}, {str: int}, False),
    ({"a": 1}, {"a": int}, True), ({"a": 1, "b": 2}, {"a": int}, False), ({}, {"a": int}, False)])
def test_a_value_has_its_shape_or_not(value, shape, fits):
    assert is_of(value, shape) is fits


@pytest.mark.parametrize(("value", "names"), [
    ({"a": 1, "b": []}, []), ({"b": [], "a": 1}, []), ({"a": 1}, ["b"]), ([], ["a", "b"]),
    ({"a": 1.5, "b": [], "c": 0}, ["a", "c"]), ({"a": 1, "b": [0]}, ["b"])])
def test_what_does_not_fit_is_named(value, names):
    assert misfits(value, {"a": int, "b": [str]}) == names
