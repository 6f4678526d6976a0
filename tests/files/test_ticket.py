import hashlib
import json
import os
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lth_keras.errors import TicketError
from lth_keras.files.ticket import Ticket

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
          "uint32", "uint64", "bool")
WEIGHT = np.array([1.5, -2.0], np.float32)
MASK = np.array([1, 0], np.uint8)
TENSORS = {"weights/w": WEIGHT, "masks/w": MASK}
SMALL = Ticket({"w": WEIGHT}, {"w": MASK}, 1, {"seed": 7, "loss": 0.25})


def same(one, other):
    def bits(arrays):
        return {name: (value.dtype, value.shape, value.tobytes())
                for name, value in arrays.items()}
    return (bits(one.weights), bits(one.masks), one.level, one.provenance) \
        == (bits(other.weights), bits(other.masks), other.level, other.provenance)


def test_a_ticket_that_is_shown_says_how_many_weights_it_keeps_and_no_arrays():
    assert repr(SMALL) == "<Ticket of level 1: 1 of 2 prunable weights kept>"


def digest(head, tensors):
    """The digest as the format defines it, written again."""
    text = json.dumps(head, sort_keys=True, separators=(",", ":"))
    whole = text.encode() + b"".join(
        f"\n{key} {tensors[key].dtype.str} {tensors[key].shape}\n".encode()
        + tensors[key].tobytes() for key in sorted(tensors))
    return hashlib.sha256(whole).hexdigest()


def forge(path, tensors=TENSORS, **changes):
    """Writes a ticket with a correct digest, whatever it holds."""
    head = {"format": 1, "level": 1, "provenance": {}, **changes}
    head["sha256"] = digest(head, tensors)
    path.write_bytes(safetensors.numpy.save(tensors, {"lth_keras": json.dumps(head)}))


def raw(header, data):
    """The bytes of a safetensors file with any header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def assert_refused(path, match="."):
    with pytest.raises(TicketError, match=match) as caught:
        Ticket.load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("tickets") / "a.ticket"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "small.ticket"
    SMALL.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
@settings(max_examples=25)
def test_what_is_written_is_read_bit_for_bit(scratch, dtype, data):
    elements = {"allow_nan": False, "allow_infinity": False} if "float" in dtype else None
    weight = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, max_side=3),
                                  elements=elements))
    mask = data.draw(hnp.arrays(np.uint8, weight.shape, elements=st.integers(0, 1)))
    contents = Ticket({"dense/kernel": weight, "bias": np.zeros(3, dtype)},
                      {"dense/kernel": mask}, data.draw(st.integers(0, 2**70)),
                      data.draw(st.dictionaries(st.text(), st.text() | st.integers(),
                                                max_size=2)))
    contents.save(scratch)
    assert same(Ticket.load(scratch), contents)


def test_numbers_at_the_edge_are_read_bit_for_bit(scratch):
    edge = np.array([-0.0, 5e-324, 1.7976931348623157e308, -1.0])
    contents = Ticket({"w": edge}, {"w": np.ones(4, np.uint8)}, 0, {"rate": 0.1 + 0.2})
    contents.save(scratch)
    assert same(Ticket.load(scratch), contents)


def test_empty_weights_are_read(scratch):
    contents = Ticket({"w": WEIGHT, "e": np.zeros((0, 3), np.float32)}, {"w": MASK}, 0, {})
    contents.save(scratch)
    assert same(Ticket.load(scratch), contents)


def test_a_scalar_weight_stays_a_scalar(scratch):
    contents = Ticket({"w": WEIGHT, "count": np.array(3, np.int64)}, {"w": MASK}, 0, {})
    contents.save(scratch)
    assert Ticket.load(scratch).weights["count"].shape == ()
    assert same(Ticket.load(scratch), contents)


@pytest.mark.parametrize("dtype", ["bool", "float32", "int64"])
def test_masks_become_uint8(scratch, dtype):
    Ticket({"w": WEIGHT}, {"w": MASK.astype(dtype)}, 1, {}).save(scratch)
    assert same(Ticket.load(scratch), Ticket({"w": WEIGHT}, {"w": MASK}, 1, {}))


def test_equal_contents_give_equal_bytes(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    mask = np.ones((2, 3), np.uint8)
    one = Ticket({"a": values, "b": WEIGHT}, {"a": mask, "b": MASK}, 2,
                 {"x": 1, "y": {"p": 2, "q": 3}})
    other = Ticket({"b": WEIGHT.copy(), "a": np.asfortranarray(values)},
                   {"b": MASK, "a": mask[:, ::-1]}, 2, {"y": {"q": 3, "p": 2}, "x": 1})
    assert one.to_bytes() == other.to_bytes()


def test_the_digest_is_the_one_that_the_format_defines(small):
    length, = struct.unpack("<Q", small[:8])
    head = json.loads(json.loads(small[8:8 + length])["__metadata__"]["lth_keras"])
    stated = head.pop("sha256")
    assert head == {"format": 1, "level": 1, "provenance": {"seed": 7, "loss": 0.25}}
    assert stated == digest(head, TENSORS)
    assert stated.startswith("053dfe07610f1168334eea8f")


def test_a_forged_ticket_with_nothing_wrong_is_read(scratch):
    forge(scratch)
    assert same(Ticket.load(scratch), Ticket({"w": WEIGHT}, {"w": MASK}, 1, {}))


INVALID = {
    "no mask": ({"w": WEIGHT}, {}, 1, {}),
    "mask without weight": ({"w": WEIGHT}, {"v": MASK}, 1, {}),
    "mask of another shape": ({"w": WEIGHT}, {"w": MASK[:1]}, 1, {}),
    "mask of another rank": ({"w": WEIGHT}, {"w": MASK[None]}, 1, {}),
    "mask value": ({"w": WEIGHT}, {"w": MASK * 2}, 1, {}),
    "mask fraction": ({"w": WEIGHT}, {"w": MASK * 0.5}, 1, {}),
    "mask nan": ({"w": WEIGHT}, {"w": MASK * np.nan}, 1, {}),
    "nan weight": ({"w": WEIGHT * np.nan}, {"w": MASK}, 1, {}),
    "infinite weight": ({"w": WEIGHT, "b": WEIGHT * np.inf}, {"w": MASK}, 1, {}),
    "complex weight": ({"w": WEIGHT.astype(complex)}, {"w": MASK}, 1, {}),
    "text weight": ({"w": np.array(["a", "b"])}, {"w": MASK}, 1, {}),
    "object weight": ({"w": np.array([None, []], object)}, {"w": MASK}, 1, {}),
    "level -1": ({"w": WEIGHT}, {"w": MASK}, -1, {}),
    "level True": ({"w": WEIGHT}, {"w": MASK}, True, {}),
    "level text": ({"w": WEIGHT}, {"w": MASK}, "3", {}),
    "level fraction": ({"w": WEIGHT}, {"w": MASK}, 1.0, {}),
    "level None": ({"w": WEIGHT}, {"w": MASK}, None, {}),
}


@pytest.mark.parametrize("parts", INVALID.values(), ids=INVALID)
def test_parts_that_do_not_fit_make_no_ticket(parts):
    with pytest.raises(TicketError, match="Received: "):
        Ticket(*parts)


def test_a_ticket_that_was_changed_to_an_invalid_one_leaves_the_file_there(tmp_path, small):
    path = tmp_path / "a.ticket"
    path.write_bytes(small)
    ticket = Ticket({"w": WEIGHT.copy()}, {"w": MASK}, 1)
    ticket.weights["w"][0] = np.nan
    with pytest.raises(TicketError, match="must be finite"):
        ticket.save(path)
    assert path.read_bytes() == small


AWKWARD = {
    "other byte order": ({"w": WEIGHT.astype(">f4")}, {"w": MASK}, 1, {}),
    "long double": ({"w": WEIGHT.astype(np.longdouble)}, {"w": MASK}, 1, {}),
    "bfloat16": ({"w": WEIGHT.astype(ml_dtypes.bfloat16)}, {"w": MASK}, 1, {}),
    "float8": ({"w": WEIGHT.astype(ml_dtypes.float8_e5m2)}, {"w": MASK}, 1, {}),
    "name of nothing": ({"": WEIGHT}, {"": MASK}, 1, {}),
    "name with slashes": ({"/a//b": WEIGHT}, {"/a//b": MASK}, 1, {}),
    "provenance of a list": ({"w": WEIGHT}, {"w": MASK}, 1, [1]),
    "provenance with nan": ({"w": WEIGHT}, {"w": MASK}, 1, {"loss": float("nan")}),
    "provenance with an array": ({"w": WEIGHT}, {"w": MASK}, 1, {"loss": WEIGHT}),
    "provenance with numbers for keys": ({"w": WEIGHT}, {"w": MASK}, 1, {2: "a", 10: "b"}),
    "provenance that is huge": ({"w": WEIGHT}, {"w": MASK}, 1, {"log": "x" * 17 * 2**20}),
}


@pytest.mark.parametrize("parts", AWKWARD.values(), ids=AWKWARD)
def test_what_is_not_refused_in_writing_can_be_read(tmp_path, parts):
    path = tmp_path / "a.ticket"
    try:
        contents = Ticket(*parts)
        contents.save(path)
    except TicketError:
        assert os.listdir(tmp_path) == []
        return
    read = Ticket.load(path)
    assert {name: value.tolist() for name, value in read.weights.items()} \
        == {name: value.tolist() for name, value in contents.weights.items()}
    # As JSON has it: keys are text.
    assert read.provenance == json.loads(json.dumps(contents.provenance))


def test_a_ticket_cut_off_anywhere_is_refused(scratch, small):
    for length in range(len(small)):
        scratch.write_bytes(small[:length])
        assert_refused(scratch)


def test_a_ticket_with_more_behind_it_is_refused(scratch, small):
    scratch.write_bytes(small + b"\0")
    assert_refused(scratch)


@pytest.mark.parametrize("flip", [1, 2, 4, 8, 16, 32, 64, 128, 255])
def test_a_byte_changed_anywhere_is_refused_or_makes_no_difference(scratch, small, flip):
    for position in range(len(small)):
        scratch.write_bytes(small[:position] + bytes([small[position] ^ flip])
                            + small[position + 1:])
        assert_refused_or_same(scratch)


@given(st.data())
def test_a_ticket_with_a_part_replaced_is_refused_or_the_same(scratch, small, data):
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(small))] * 2)))
    scratch.write_bytes(small[:begin] + data.draw(st.binary(max_size=20)) + small[end:])
    assert_refused_or_same(scratch)


def assert_refused_or_same(path):
    try:
        read = Ticket.load(path)
    except TicketError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert same(read, SMALL)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(scratch, content):
    scratch.write_bytes(content)
    assert_refused(scratch)


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_random_bytes_as_a_header_are_refused(scratch, header, data):
    scratch.write_bytes(struct.pack("<Q", len(header)) + header + data)
    assert_refused(scratch)


@pytest.mark.parametrize("declared", [2**64 - 1, 2**63, 2**40, 16 * 2**20 + 1, 11])
def test_a_header_that_claims_more_than_the_file_is_refused(scratch, declared):
    scratch.write_bytes(struct.pack("<Q", declared) + b"{}        ")
    assert_refused(scratch, f"not a whole ticket: its header claims {declared:,} bytes, of 18 in")


def test_a_header_that_is_huge_is_refused(scratch):
    header = {"__metadata__": {"lth_keras": "{}", "padding": "x" * 17 * 2**20}}
    scratch.write_bytes(raw(header, b""))
    assert_refused(scratch, "its header claims 17,")
    scratch.unlink()


def test_a_foreign_safetensors_file_is_refused(scratch):
    for metadata in (None, {}, {"format": "pt"}):
        scratch.write_bytes(safetensors.numpy.save(TENSORS, metadata))
        assert_refused(scratch, "a safetensors file, but not a ticket")


@pytest.mark.parametrize("content", [b"PK\x03\x04" * 20, b"\x89HDF\r\n\x1a\n" * 20,
                                     b"\x80\x04\x95" * 20, b"{}", b"a text\n" * 20])
def test_a_file_of_another_kind_is_refused(scratch, content):
    scratch.write_bytes(content)
    assert_refused(scratch)


def test_a_missing_file_is_refused(tmp_path):
    assert_refused(tmp_path / "none.ticket", "cannot be read: No such file or directory")


def test_a_folder_is_refused(tmp_path):
    assert_refused(tmp_path, "cannot be read: (Is a directory|Permission denied)")


def test_a_path_may_be_text(scratch, small):
    scratch.write_bytes(small)
    assert same(Ticket.load(str(scratch)), SMALL)


HOSTILE = {
    "mask of floats": ("must be of type uint8.*'w' of float32",
                       {**TENSORS, "masks/w": MASK.astype(np.float32)}),
    "mask of bools": ("must be of type uint8.*'w' of bool", {**TENSORS, "masks/w": MASK != 0}),
    "mask of int8": ("must be of type uint8.*'w' of int8",
                     {**TENSORS, "masks/w": MASK.astype(np.int8)}),
    "mask value 2": ("only 0 and 1.*1 other values in the mask of 'w'",
                     {**TENSORS, "masks/w": MASK * 2}),
    "mask value 255": ("only 0 and 1", {**TENSORS, "masks/w": MASK * 255}),
    "mask without its weight": ("needs its weight.*'v'", {**TENSORS, "masks/v": MASK}),
    "mask of another shape": ("weight's shape.*'w'", {**TENSORS, "masks/w": MASK[:1]}),
    "mask of another rank": ("weight's shape.*'w'", {**TENSORS, "masks/w": MASK[None]}),
    "no mask": ("at least one mask", {"weights/w": WEIGHT}),
    "nothing": ("at least one mask", {}),
    "nan": ("must be finite.*2 NaN or infinite values in 'w'",
            {**TENSORS, "weights/w": WEIGHT * np.nan}),
    "infinity": ("must be finite.*'b'", {**TENSORS, "weights/b": np.array([0, -np.inf])}),
    "name without a part": ("alone. Received: a tensor 'w'", {**TENSORS, "w": WEIGHT}),
    "name of another part": ("alone. Received: a tensor 'code/w'", {**TENSORS, "code/w": WEIGHT}),
    "part without a name": ("alone. Received: a tensor 'masks/'", {**TENSORS, "masks/": MASK}),
    "part as a name": ("alone. Received: a tensor 'weights'", {**TENSORS, "weights": MASK}),
}


@pytest.mark.parametrize(("match", "tensors"), HOSTILE.values(), ids=HOSTILE)
def test_tensors_that_make_no_ticket_are_refused_though_the_digest_fits(scratch, match, tensors):
    forge(scratch, tensors)
    assert_refused(scratch, match)


@pytest.mark.parametrize(("match", "changes"), [
    ("level must be .* Received: -1", {"level": -1}),
    ("level must be .* Received: True", {"level": True}),
    ("level must be .* Received: '3'", {"level": "3"}),
    ("level must be .* Received: 1.5", {"level": 1.5}),
    ("level must be .* Received: None", {"level": None}),
    ("level must be .* Received: \\[1\\]", {"level": [1]}),
    ("provenance must be a JSON object. Received: \\[1\\]", {"provenance": [1]}),
    ("provenance must be a JSON object. Received: None", {"provenance": None}),
    ("provenance must be a JSON object. Received: 'xxx", {"provenance": "x" * 1000}),
    ("reads ticket format 1. Received: format 2; try a newer", {"format": 2}),
    ("reads ticket format 1. Received: format None", {"format": None}),
    ("reads ticket format 1. Received: format '1'", {"format": "1"})])
def test_a_head_that_makes_no_ticket_is_refused_though_the_digest_fits(scratch, match, changes):
    forge(scratch, **changes)
    assert_refused(scratch, match)


@pytest.mark.parametrize("missing", ["level", "format", "provenance", "sha256"])
def test_a_head_that_lacks_an_entry_is_refused(scratch, missing):
    head = {"format": 1, "level": 1, "provenance": {}}
    head = {key: value for key, value in head.items() if key != missing}
    if missing != "sha256":
        head["sha256"] = digest(head, TENSORS)
    scratch.write_bytes(safetensors.numpy.save(TENSORS, {"lth_keras": json.dumps(head)}))
    assert_refused(scratch)


@pytest.mark.parametrize("head", ["[1]", "3", "null", '"text"', "true"])
def test_a_head_that_is_no_object_is_refused(scratch, head):
    scratch.write_bytes(safetensors.numpy.save(TENSORS, {"lth_keras": head}))
    assert_refused(scratch, "metadata must be a JSON object. Received: ")


@pytest.mark.parametrize("head", ["", "{", "{}{}", "\ud83d", "{'a': 1}", "[" * 100_000,
                                  "9" * 10_000])
def test_a_head_that_is_no_json_is_refused(scratch, head):
    scratch.write_bytes(raw({"__metadata__": {"lth_keras": head}}, b""))
    assert_refused(scratch)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_refused(scratch, number):
    head = f'{{"format":1,"level":1,"provenance":{{"loss":{number}}},"sha256":"0"}}'
    scratch.write_bytes(safetensors.numpy.save(TENSORS, {"lth_keras": head}))
    assert_refused(scratch)


def test_a_head_nested_to_any_depth_is_refused(scratch):
    for depth in [10, *range(800, 1000), 10_000, 100_000]:
        nested = "[" * depth + "]" * depth
        head = f'{{"format":1,"level":1,"provenance":{{"a":{nested}}},"sha256":"0"}}'
        scratch.write_bytes(safetensors.numpy.save(TENSORS, {"lth_keras": head}))
        assert_refused(scratch)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize("entry", [
    None, 3, [], {}, {"dtype": "F32"}, {**ENTRY, "dtype": "F128"}, {**ENTRY, "dtype": None},
    {**ENTRY, "dtype": "BF16", "shape": [4]}, {**ENTRY, "dtype": "F8_E5M2", "shape": [8]},
    {**ENTRY, "dtype": "F4", "shape": [16]}, {**ENTRY, "dtype": "C64", "shape": [1]},
    {**ENTRY, "shape": [3]}, {**ENTRY, "shape": [-2]}, {**ENTRY, "shape": [2**62, 2**62]},
    {**ENTRY, "shape": [2**64]}, {**ENTRY, "shape": [2.0]}, {**ENTRY, "shape": "2"},
    {**ENTRY, "shape": [1] * 70 + [2]}, {**ENTRY, "shape": [0, 2**62], "data_offsets": [0, 0]},
    {**ENTRY, "data_offsets": [8, 0]}, {**ENTRY, "data_offsets": [0, 2**63]},
    {**ENTRY, "data_offsets": [-8, 0]}, {**ENTRY, "data_offsets": [4, 12]},
    {**ENTRY, "data_offsets": [0]}], ids=range(24))
def test_a_tensor_entry_that_does_not_hold_together_is_refused(scratch, entry):
    head = json.dumps({"format": 1, "level": 1, "provenance": {}, "sha256": "0"})
    scratch.write_bytes(raw({"__metadata__": {"lth_keras": head}, "weights/w": entry}, bytes(8)))
    assert_refused(scratch)


def test_an_altered_weight_is_refused_as_altered(scratch):
    forge(scratch)
    whole = scratch.read_bytes()
    scratch.write_bytes(whole.replace(WEIGHT.tobytes(), (WEIGHT + 1).tobytes()))
    assert_refused(scratch, "altered or damaged: its contents do not match its SHA-256")


def test_weights_that_change_places_are_refused_as_altered(scratch):
    tensors = {**TENSORS, "weights/v": WEIGHT[::-1].copy()}
    forge(scratch, tensors)
    assert b"weights/v" in scratch.read_bytes()
    swapped = scratch.read_bytes().replace(b"weights/v", b"weights/#").replace(
        b"weights/w", b"weights/v").replace(b"weights/#", b"weights/w")
    scratch.write_bytes(swapped)
    assert_refused(scratch, "altered or damaged")
