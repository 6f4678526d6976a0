"""Whatever a file holds, reading it gives an error of ours, in one line, or a correct read."""

import copy
import hashlib
import json
import random

import numpy as np
import pytest
import safetensors.numpy
import workdirs
from small import CONFIG

from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import paths, record, repair, store
from lth_keras.files import checksums
from lth_keras.files.ticket import Ticket

ODD = [None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 10**30, 0.5, -0.0, 1e300, 1e308, "", "x",
       "a" * 200, "ticket", "../../x", "/etc/passwd", "\x00", "\x1b[2J", "a\nb", "é", "\ud800",
       [], {}, [[]], [1] * 50, {"sha256": 1}, {"__metadata__": {}}, "NaN", "[red]", "$x$"]
BYTES = [b"", b"\x00", b"\xff" * 8, b"{", b"}", b"[" * 2000, b'"', b",", b"1e999", b"NaN", b"\n",
         b"-", b"9" * 5000, b"Infinity", b"null", b"\xf0\x9f", b"\r", b'""', b"nan,inf"]
TICKET = workdirs.ticket(1).to_bytes()
# A filter's bias is masked with it.
OF_FILTERS = Ticket({"w": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)},
                    {"w": np.uint8([[1, 0, 1]] * 2), "b": np.uint8([1, 0, 1])}, 1,
                    {"settings": {"structure": "filters"}}).to_bytes()


def mutated_bytes(data, rng):
    """Bytes with a few parts flipped, cut, doubled, moved or replaced."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        one, other = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        other = min(other, one + rng.choice((1, 8, 100, 10_000)))
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[one % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[one:other]
        elif kind == 2:
            data[one:other] = rng.choice(BYTES)
        elif kind == 3:
            data[one:one] = data[one:other]
        elif kind == 4:
            del data[one:]
        else:
            data[one:other] = rng.randbytes(min(16, other - one))
    return bytes(data)


def mutated_plain(plain, rng):
    """JSON data with a few entries replaced, taken away, renamed or added."""
    plain = copy.deepcopy(plain)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, places = plain, []
        while isinstance(at, dict | list) and at:
            key = rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
            places.append((at, key))
            at = at[key]
        if not places:
            return rng.choice(ODD)
        at, key = rng.choice(places)
        kind = rng.randrange(4)
        if kind <= 1:
            at[key] = copy.deepcopy(rng.choice(ODD))
        elif kind == 2:
            del at[key]
        elif isinstance(at, dict):
            at[str(rng.choice(ODD))] = at[key]
        else:
            at.append(copy.deepcopy(rng.choice(ODD)))
    return plain


def checked(read, data):
    """What a reader says of it: an error of ours in one line of bounded length, or a value."""
    try:
        return read(data), False
    except (LotteryError, *READERS_OWN.get(read, ())) as error:
        text = str(error)
        assert text and "\n" not in text and len(text) < 2000, text[:3000]
        return None, True


def a_record():
    row = {**workdirs.RESULT, "replicate": 0, "branch": "ticket", "branch_index": 0, "level": 1}
    mark = checksums.mark(b"abc")
    return record.Record({name: row.get(name) for name in record.COLUMNS}, CONFIG.fingerprint,
                         mark, mark, mark)


def seal(plain):
    """A seal that fits, on whatever."""
    try:
        return checksums.seal(plain).encode()
    except (ValueError, TypeError):
        return json.dumps(plain).encode()


def fuzz_ticket(rng):
    whole = rng.choice((TICKET, OF_FILTERS))
    if rng.random() < 0.5:
        data = mutated_bytes(whole, rng)
    else:  # A header that holds together, with anything in it.
        size = int.from_bytes(whole[:8], "little")
        header = json.dumps(mutated_plain(json.loads(whole[8:8 + size]), rng)).encode()
        data = len(header).to_bytes(8, "little") + header + whole[8 + size:]
    read, refused = checked(Ticket.from_bytes, data)
    if not refused:
        assert read.to_bytes() == whole and read.in_filters == (whole is OF_FILTERS)


def fuzz_ticket_head(rng):
    """A head with anything in it, whose SHA-256 fits."""
    tensors = safetensors.numpy.load(TICKET)
    head = mutated_plain({"format": 1, "level": 1, "provenance": {
        "a": [1, {"b": "c"}], "settings": {"structure": "filters"}}}, rng)
    if rng.random() < 0.3:
        name = rng.choice(["weights/w", "masks/w", "w", "masks/v", "weights/", "a" * 3000, "\n"])
        tensors[name] = tensors.pop(rng.choice(list(tensors)))
    try:
        sealed = {**head, "sha256": _digest(head, tensors)}
    except (TypeError, ValueError):
        return
    data = safetensors.numpy.save(tensors, {"lth_keras": json.dumps(sealed)})
    read, refused = checked(Ticket.from_bytes, data)
    if not refused:
        again = Ticket(read.weights, read.masks, read.level, read.provenance)
        assert again.in_filters in (True, False)


def _digest(head, tensors):
    digest = hashlib.sha256(checksums.canonical_json(head).encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"\n{key} {value.dtype.str} {value.shape}\n".encode() + value.tobytes())
    return digest.hexdigest()


def fuzz_record(rng):
    whole = a_record()
    plain = json.loads(whole.encode())
    del plain["sha256"]
    sealed = rng.random() < 0.6
    data = seal(mutated_plain(plain, rng)) if sealed \
        else mutated_bytes(whole.encode().encode(), rng)
    read, refused = checked(record.decode, data)
    if not refused:
        assert read.encode().encode() == data and (sealed or read == whole)


def fuzz_config(rng):
    plain = mutated_plain(CONFIG.to_dict(), rng)
    if rng.random() < 0.5:
        data = mutated_bytes(json.dumps(CONFIG.to_dict()).encode(), rng).decode("latin-1")
    else:
        data = json.dumps(plain)
    read, refused = checked(Config.from_json, data)
    if not refused:
        assert Config.from_json(json.dumps(read.to_dict())) == read
        assert read.fingerprint.isalnum() and read.preset.isprintable()


def fuzz_sealed(rng):
    whole = checksums.seal(CONFIG.to_dict()).encode()
    data = mutated_bytes(whole, rng)
    _, refused = checked(checksums.unseal, data)
    assert refused or data == whole


IN_MEMORY = (fuzz_ticket, fuzz_ticket_head, fuzz_record, fuzz_config, fuzz_sealed)
READERS_OWN = {record.decode: (ValueError,), checksums.unseal: (ValueError,)}


def fuzz_workdir(rng, root, whole):
    """A file of a workdir with other content: found damaged, or everything is as it was."""
    name = rng.choice(list(whole))
    path, plain = root / name, None
    if path.suffix == ".json" and rng.random() < 0.6:
        plain = json.loads(whole[name])
        del plain["sha256"]
        data = seal(mutated_plain(plain, rng))
    else:
        data = mutated_bytes(whole[name], rng)
    path.write_bytes(data)
    try:
        damages, failed = checked(lambda data: repair.check(root, CONFIG), data)
        if not failed and not damages and data != whole[name]:
            # Measures, or an extent, that may be so; or a table that is made anew.
            assert plain is not None or name == "results.csv"
        for damage in damages or ():
            assert "\n" not in str(damage)
        for read in (store.results, store.curves, store.results_stale, paths.read_config):
            checked(read, root)
        checked(lambda _: paths.read_curve(root, Training(0, 0), checksums.mark(data)), data)
    finally:
        path.write_bytes(whole[name])


def fuzz_curve(rng, root, whole):
    """A curve with anything in it, whose SHA-256 fits."""
    path = paths.folder(root, Training(0, 0)) / "curve.csv"
    name = path.relative_to(root).as_posix()
    data = mutated_bytes(whole[name], rng)
    path.write_bytes(data)
    try:
        read, refused = checked(
            lambda data: paths.read_curve(root, Training(0, 0), checksums.mark(data)), data)
        assert refused or tuple(read.columns) == paths.CURVE_COLUMNS
    finally:
        path.write_bytes(whole[name])


ON_DISK = (fuzz_workdir, fuzz_curve)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    workdirs.fill(root, CONFIG.replace(rounds=1))
    return root, {path.relative_to(root).as_posix(): path.read_bytes()
                  for path in sorted(root.rglob("*")) if path.is_file()}


def run(fuzz, count, *arguments):
    """Reads so many inputs; the same ones each time."""
    rng = random.Random(f"{fuzz.__name__}/{count}")
    for _ in range(count):
        fuzz(rng, *arguments)
    return count


@pytest.mark.parametrize("fuzz", IN_MEMORY)
def test_what_is_read_is_correct_or_an_error_of_ours(fuzz):
    assert run(fuzz, 400)


@pytest.mark.parametrize("fuzz", ON_DISK)
def test_a_workdir_with_a_file_of_anything_is_correct_or_damaged(fuzz, workdir):
    assert run(fuzz, 60, *workdir)


@pytest.mark.long
@pytest.mark.parametrize("fuzz", IN_MEMORY)
def test_a_hundred_thousand_inputs_are_read_correctly_or_refused(fuzz):
    print(fuzz.__name__, run(fuzz, 22_000), "inputs", flush=True)


@pytest.mark.long
@pytest.mark.parametrize("fuzz", ON_DISK)
def test_thousands_of_workdirs_are_read_correctly_or_refused(fuzz, workdir):
    print(fuzz.__name__, run(fuzz, 2_500, *workdir), "inputs", flush=True)
