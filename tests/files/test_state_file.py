import dataclasses
import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_keras.errors import WorkdirError
from lth_keras.files import state_file, tensor_file
from lth_keras.files.state_file import RewindPoint, State

W = np.array([[1.5, -2.0]], np.float32)
ROUND = {"level": 1, "density": 0.8, "steps": 7, "epochs": 2, "over": False, "loss": float("nan"),
         "seconds": 1.5, "logs": {"loss": float("inf")}, "best": [0.5, 4]}
RESTORED = {"weights": 2, "statistics": 0, "slots": 4, "iterations": 0, "learning_rate": None}
SMALL = State(
    settings={"seed": 1, "schedule": {"rounds": 2}}, epoch=5, first_epoch=1, round=ROUND,
    rows=[{"level": 0, "val_loss": float("nan"), "diverged": False, "early_stop_step": None,
           "accuracy": 1}],
    restored=[RESTORED], history={"epochs": [1, 2], "logs": {"loss": [0.5, [1.0, 2.0]]}},
    counters=[{"count": 3}],
    callbacks=[{"wait": 1, "best": np.array(W[0, 0]), "best_weights": [W, W + 1],
                "rates": [0.1]}, {}],
    weights={"b": np.zeros(0, np.float16), "dense/kernel": W},
    masks={"dense/kernel": np.ones((1, 2), np.uint8)},
    thresholds={"dense/kernel": np.array(0.5, np.float32)},
    optimizer=[np.array(7, np.int64), *(W * i for i in range(11))],
    draws=[np.arange(3, dtype=np.int64)], files={"start.safetensors": "0" * 64})
WHOLE = state_file.encode(SMALL)
START = state_file.encode_start(RewindPoint({"w": W}, [W, W + 1], [{"a": 1}]))
READERS = {"state": (state_file.decode, WHOLE), "start": (state_file.decode_start, START)}


def plain(value):
    """A value that can be compared, bit by bit."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, (State, RewindPoint)):
        return plain(vars(value))
    if isinstance(value, dict):  # JSON keeps its order, tensors come in their file's.
        items = [(key, plain(item)) for key, item in value.items()]
        return sorted(items) if all(isinstance(item, np.ndarray) for item in value.values()) \
            else items
    if isinstance(value, list):
        return [*map(plain, value)]
    return repr(value) if isinstance(value, float) else value


def forged(data, change):
    """The bytes of a file with a right digest and a head that was changed."""
    kind = state_file.STATE if b"lth_keras_state" in data[:400] else state_file.START
    head, tensors = kind.decode(data)
    change(head, tensors)
    return kind.encode(head, tensors)


def test_a_state_is_read_bit_for_bit():
    assert plain(state_file.decode(WHOLE)) == plain(SMALL)
    assert state_file.encode(state_file.decode(WHOLE)) == WHOLE
    # Tickets share theta_k, and criteria are handed it.
    assert not any(array.flags.writeable for array in state_file.decode(WHOLE).weights.values())


def test_a_start_is_read_bit_for_bit():
    assert plain(state_file.decode_start(START)) == plain(RewindPoint({"w": W}, [W, W + 1],
                                                                      [{"a": 1}]))


@pytest.mark.parametrize("reader", READERS)
def test_a_file_cut_off_or_changed_is_refused_or_the_same(reader):
    read, whole = READERS[reader]
    for position in range(0, len(whole), 7):
        assert_refused(read, whole[:position])
        for flip in (1, 32, 255):
            changed = whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1:]
            assert_refused_or(read, changed, whole)


def assert_refused(read, data):
    with pytest.raises(WorkdirError):
        read(data)


def assert_refused_or(read, data, whole):
    try:
        found = read(data)
    except WorkdirError:
        return
    assert plain(found) == plain(read(whole))


@pytest.mark.parametrize("reader", READERS)
@given(data=st.data())
def test_a_file_with_a_part_replaced_is_refused_or_the_same(reader, data):
    spliced(reader, data)


def spliced(reader, data):
    read, whole = READERS[reader]
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    assert_refused_or(read, whole[:begin] + data.draw(st.binary(max_size=20)) + whole[end:], whole)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5) | st.sampled_from(["plain", "array", "arrays", "nan", 2**60, -1]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["plain", "array", "arrays", "float", "level", "x"]), inner,
                      max_size=2), max_leaves=5)


def changed(data, value):
    """A JSON value with one part of it, at any depth, replaced, left out or added."""
    if isinstance(value, (dict, list)) and value and data.draw(st.integers(0, 3)):
        copy = dict(value) if isinstance(value, dict) else list(value)
        key = data.draw(st.sampled_from(sorted(copy) if isinstance(copy, dict)
                                        else range(len(copy))))
        if not data.draw(st.integers(0, 5)):
            del copy[key]
        else:
            copy[key] = changed(data, copy[key])
        return copy
    return data.draw(ANYTHING)


def types(state):
    """Fails unless a state is what `State` says it is."""
    assert type(state.epoch) is int and state.epoch >= 0
    assert set(state.round) == set(ROUND) and type(state.round["level"]) is int
    assert all(set(item) == set(RESTORED) for item in state.restored)
    assert all(isinstance(row, dict) for row in state.rows)
    assert all(type(number) is int for item in state.counters for number in item.values())
    assert all(isinstance(item, dict) for item in state.callbacks)
    assert all(isinstance(item, str) for item in state.files.values())
    assert all(isinstance(item, np.ndarray) for part in (
        state.weights.values(), state.masks.values(), state.thresholds.values(), state.optimizer,
        state.draws) for item in part)


@given(data=st.data())
def test_a_head_of_anything_with_a_right_digest_is_refused_or_read_as_declared(data):
    hostile(data)


def hostile(data):
    head, tensors = state_file.STATE.decode(WHOLE)
    head = changed(data, head)
    if data.draw(st.booleans()) and tensors:
        name = data.draw(st.sampled_from(sorted(tensors)))
        moved = tensors.pop(name)
        if data.draw(st.booleans()):
            tensors[data.draw(st.sampled_from(["weights/", "draws/1", "x", "optimizer/99", "../a",
                                               "callbacks/0", "optimizer/-1"]))] = moved
    if not isinstance(head, dict):
        return
    try:
        found = state_file.decode(state_file.STATE.encode(head, tensors))
    except WorkdirError:
        return
    types(found)


@pytest.mark.long
@pytest.mark.parametrize("reader", READERS)
@given(data=st.data())
@settings(max_examples=10_000)
def test_many_files_with_a_part_replaced_are_refused_or_the_same(reader, data):
    spliced(reader, data)


@pytest.mark.long
@given(data=st.data())
@settings(max_examples=10_000)
def test_many_heads_of_anything_are_refused_or_read_as_declared(data):
    hostile(data)


@pytest.mark.parametrize("change", [
    lambda head, tensors: head.update(epoch=-1), lambda head, tensors: head.update(epoch=2**60),
    lambda head, tensors: head.update(epoch=True), lambda head, tensors: head.pop("rows"),
    lambda head, tensors: head.update(more=1), lambda head, tensors: head["round"].pop("best"),
    lambda head, tensors: head["round"].update(best=[1.0]),
    lambda head, tensors: head.update(rows=[{"a": [1]}]),
    lambda head, tensors: head.update(callbacks=[{"wait": {"array": 99}}]),
    lambda head, tensors: head.update(callbacks=[{"wait": {"arrays": [1, 0]}}]),
    lambda head, tensors: head.update(files={"start.safetensors": 3}),
    lambda head, tensors: tensors.update({"code/x": W}),
    lambda head, tensors: tensors.pop("optimizer/3")], ids=range(13))
def test_a_state_that_is_none_is_refused_though_the_digest_fits(change):
    assert_refused(state_file.decode, forged(WHOLE, change))


def test_other_kinds_of_files_are_refused():
    assert_refused(state_file.decode, START)
    assert_refused(state_file.decode_start, WHOLE)
    assert_refused(state_file.decode, safetensors.numpy.save({"weights/w": W}))


@pytest.mark.parametrize("depth", [100, 990, 100_000])
def test_a_head_nested_to_any_depth_is_refused(depth):
    head = '{"format":1,"settings":' + "[" * depth + "]" * depth + ',"sha256":"0"}'
    text = json.dumps({"__metadata__": {"lth_keras_state": head}}).encode()
    assert_refused(state_file.decode, struct.pack("<Q", len(text)) + text)


@pytest.mark.parametrize("depth", [100, 500, 900])
def test_a_head_nested_to_any_depth_with_a_right_digest_is_refused_or_read(depth):
    nested = 0
    for _ in range(depth):
        nested = [nested]
    try:
        data = forged(WHOLE, lambda head, tensors: head.update(settings={"a": nested}))
    except RecursionError:
        pytest.skip("this Python's json does not write it")
    try:
        state_file.decode(data)
    except WorkdirError as error:
        assert depth > 100, error


def test_what_is_no_json_is_not_written():
    with pytest.raises((TypeError, ValueError)):
        tensor_file.Kind("state", "k", 1, WorkdirError).encode({"a": object()}, {})


def test_a_state_of_the_earlier_format_is_read_and_one_of_a_later_is_not():
    head, tensors = state_file.STATE.decode(WHOLE)
    earlier = dataclasses.replace(state_file.STATE, version=1).encode(head, tensors)
    assert plain(state_file.decode(earlier)) == plain(SMALL)
    later = dataclasses.replace(state_file.STATE, version=3).encode(head, tensors)
    with pytest.raises(WorkdirError, match="reads state format 2. Received: format 3; try a newer"):
        state_file.decode(later)
