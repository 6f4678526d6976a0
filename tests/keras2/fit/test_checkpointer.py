"""A search in `fit` that goes on from a workdir, and what keeps it from doing so."""

import contextlib
import dataclasses
import errno
import itertools
import os
import resource
import shutil
import subprocess
import sys

import networks
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from dying import Death, Dies
from networks import compiled, STEPS, X, Y
from resumed_fits import Fits, killed, Logs, network, tickets
from tiers import short_and_long

import lth_keras as lth
from lth_keras.errors import LotteryError, WorkdirError
from lth_keras.files import atomic, checksums, state_file, workdir_lock
from lth_keras.search.fit.round_callbacks import RoundCallbacks

layers = keras.layers
callbacks = keras.callbacks
FILES = ("state.safetensors", "start.safetensors", "level_00/ticket.safetensors",
         "level_01/ticket.safetensors")


@pytest.fixture(scope="module")
def fits():
    return Fits(keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.02, 4, 0.8)))


@pytest.fixture(scope="module")
def fits_of_a_rate():
    """Those of an optimizer whose rate can be set."""
    return Fits(keras.optimizers.SGD(0.05, momentum=0.9))


@pytest.fixture(scope="module")
def whole(fits, tmp_path_factory):
    """A search that was never killed, and its workdir."""
    root = tmp_path_factory.mktemp("whole")
    return fits.fit(root), root


@pytest.fixture
def root(tmp_path):
    return tmp_path / "search"


# The same bits.


def test_a_workdir_changes_nothing(fits, whole):
    assert fits.fit(None) == whole[0]


def test_the_workdir_holds_the_tickets_and_the_results(fits, whole):
    search, root = whole
    for level, ticket in enumerate(search.tickets):
        assert lth.Ticket.load(root / f"level_{level:02d}" / "ticket.safetensors") == ticket
    assert (root / "results.csv").read_text() == search.lottery.results.to_csv(index=False)
    assert sorted(path.name for path in root.iterdir()) == [
        ".lock", "level_00", "level_01", "level_02", "results.csv", "start.safetensors",
        "state.safetensors"]


@pytest.mark.thorough
@pytest.mark.parametrize(("hook", "count", "first"), short_and_long([
    ("on_train_begin", 1, False), ("on_epoch_begin", 1, True), ("on_epoch_begin", 1, False),
    ("on_epoch_begin", 4, True), ("on_epoch_begin", 4, False), ("on_train_batch_begin", 13, False),
    ("on_train_batch_end", 4, False), ("on_test_begin", 3, True), ("on_test_batch_end", 7, False),
    ("on_epoch_end", 3, True), ("on_epoch_end", 6, False), ("on_epoch_end", 9, False),
    ("on_train_end", 1, True), ("on_train_end", 1, False)],
    [("on_epoch_begin", 4, True), ("on_test_batch_end", 7, False), ("on_epoch_end", 6, False),
     ("on_train_end", 1, False)]))
def test_a_search_killed_in_any_hook_ends_in_the_same_bits(fits, whole, root, *, hook, count,
                                                           first):
    death = [Dies(hook, count)]
    assert fits.fit(root, *([] if first else death), first=death if first else []) is None
    assert fits.fit(root) == whole[0]
    assert tickets(root) == tickets(whole[1])


@pytest.mark.thorough
def test_a_search_killed_in_every_epoch_ends_in_the_same_bits(fits, whole, root):
    for _ in range(8):
        assert fits.fit(root, Dies("on_train_batch_end", STEPS + 2)) is None
    # Each had one epoch saved, so that one was left.
    assert fits.fit(root, Dies("on_train_batch_end", STEPS + 2)) == whole[0]


@pytest.mark.thorough
@pytest.mark.parametrize(("call", "writes"), short_and_long([
    ("replace", 1), ("replace", 2), ("replace", 3), ("replace", 4), ("fsync", 5), ("fsync", 7),
    ("replace", 8), ("replace", 11)], [("replace", 1), ("replace", 4), ("fsync", 7)]))
def test_a_search_killed_while_it_writes_ends_in_the_same_bits(fits, whole, root, monkeypatch, *,
                                                               call, writes):
    original, calls = getattr(os, call), itertools.count(1)

    def die(*arguments):
        if next(calls) >= writes:
            raise Death
        return original(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, die)
        # What was being written stays behind.
        patch.setattr(atomic.pathlib.Path, "unlink", lambda *arguments, **options: None)
        assert fits.fit(root) is None
    assert fits.fit(root) == whole[0]
    assert tickets(root) == tickets(whole[1])
    assert not [path for path in root.rglob(".*") if path.name != ".lock"]


@pytest.mark.parametrize("options", short_and_long([
    {"steps_per_round": 6}, {"steps_per_round": 10, "rewind_step": 5}, {"rewind_step": 6},
    {"criterion": "random", "seed": 4}, {"rounds": 0}],
    [{"steps_per_round": 10, "rewind_step": 5}], pytest.mark.thorough), ids=str)
def test_a_search_of_any_settings_goes_on_in_the_same_bits(fits, tmp_path, options):
    killed(fits, tmp_path, lambda: options)


@pytest.mark.parametrize("stopping", [
    lambda: callbacks.EarlyStopping("val_loss", patience=1, min_delta=0.01,
                                    restore_best_weights=True),
    pytest.param(lambda: callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=10),
                 marks=pytest.mark.thorough)],
    ids=["EarlyStopping", "ReduceLROnPlateau"])
def test_round_callbacks_go_on_where_they_were(fits_of_a_rate, tmp_path, stopping):
    expected = killed(fits_of_a_rate, tmp_path, lambda: {"round_callbacks": [stopping()],
                                                         "epochs_per_round": 5})
    # It did what it does.
    rate = float(fits_of_a_rate.model.optimizer.learning_rate)
    assert expected.lottery.results.epochs.min() < 5 or rate < 0.04


class Remembers(callbacks.Callback):
    """Counts rounds, and keeps what it saw in the first of them."""

    def __init__(self):
        super().__init__()
        self.round, self.losses = 0, []

    def on_train_begin(self, logs=None):
        self.round += 1

    def on_epoch_end(self, epoch, logs=None):
        if self.round == 1:
            self.losses = [*self.losses, logs["loss"]]


def test_round_callbacks_keep_what_earlier_rounds_left(fits, root, tmp_path):
    def options():
        made.append((Remembers(), lth.EarlyBird(patience=3, threshold=0)))
        return {"round_callbacks": made[-1]}
    made = []
    fits.fit(tmp_path / "whole", **options())
    # After an epoch of round 2, in which only the count of rounds has changed.
    assert fits.fit(root, Dies("on_epoch_end", 5), **options()) is None
    fits.fit(root, **options())
    (whole, bird), _, (resumed, other) = made
    assert (resumed.round, resumed.losses) == (whole.round, whole.losses) == (3, whole.losses)
    assert len(whole.losses) == 3
    assert other.pairs.equals(bird.pairs) and {*bird.pairs.level} == {0, 1}


def test_a_finished_search_run_again_trains_nothing(fits, whole, root):
    shutil.copytree(whole[1], root)
    before = {path: path.read_bytes() for path in root.rglob("*.*") if path.is_file()}
    batches = networks.Batches()
    assert fits.fit(root, first=[batches]) == whole[0]
    assert batches.count == 0
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("scheduled", [False, True])
def test_one_callback_goes_on_after_ctrl_c(root, scheduled):
    model = compiled(network())
    lottery = networks.lottery(workdir=root)
    rate = callbacks.LearningRateScheduler(lambda epoch: 0.01 / (epoch + 1))
    for last in (3, 4, None):
        others = [rate] * scheduled + ([] if last is None else [Dies("on_epoch_end", last)])
        with contextlib.suppress(Death):
            networks.fit(model, lottery, *others)
    assert lottery.results.level.tolist() == [0, 1, 2]
    assert model.history.epoch == [*range(6)]


def test_a_fit_that_a_callback_stopped_goes_on_in_the_same_bits(tmp_path):
    # At its end Keras puts the averages into the weights.
    fits = Fits(keras.optimizers.Adam(0.02, use_ema=True))
    expected = fits.fit(tmp_path / "whole", Logs())
    with pytest.warns(UserWarning, match="fit ended before the search did: at level 1"):
        fits.fit(tmp_path / "stopped", Logs(last=4))
    assert fits.fit(tmp_path / "stopped", Logs()) == expected
    assert tickets(tmp_path / "stopped") == tickets(tmp_path / "whole")


def test_logs_are_kept_if_they_are_numbers(fits, root, tmp_path):
    assert fits.fit(root, Logs(tf.constant(2.0))).lottery.results.level.tolist() == [0, 1, 2]
    with pytest.raises(LotteryError, match="a log must be a number.* Received: 'added', a object"):
        fits.fit(tmp_path / "other", Logs(object()))


def test_data_in_a_fixed_order_goes_on_in_the_same_bits(fits, tmp_path):
    killed(fits, tmp_path, lambda: {"shuffled": False})


def test_a_search_that_goes_on_says_so(fits, root, capsys):
    fits.fit(root, Dies("on_epoch_end", 5), verbose=1)
    capsys.readouterr()
    fits.fit(root, Dies("on_epoch_end", 2), shuffled=False, verbose=1)
    assert f"{root}: continues at epoch 4, in level 1, as a fit that was never stopped, if the " \
           "order of the data depends only on the epoch" in capsys.readouterr().out
    fits.fit(root, verbose=1)
    assert "continues at epoch 5, in level 1, as a fit that was never stopped\n" \
        in capsys.readouterr().out
    fits.fit(root, verbose=1)
    assert f"{root}: the search is finished; nothing is trained" in capsys.readouterr().out


def test_layers_that_draw_from_operations_are_named(tmp_path):
    model = compiled(lth.prune_low_magnitude(keras.Sequential([
        layers.Input((6,)), layers.Dropout(0.5, name="lossy"), layers.Dropout(0, name="still"),
        layers.Dense(2)])))
    lottery = lth.LotteryTicketCallback(rounds=0, epochs_per_round=1, verbose=0, workdir=tmp_path)
    with pytest.warns(UserWarning, match="^lossy: draws random numbers by operations whose state"):
        model.fit(X, Y, verbose=0, callbacks=[lottery])


class Keeps(callbacks.Callback):
    """Keeps what cannot be written."""

    def on_epoch_end(self, epoch, logs=None):
        self.thing = object()


def test_what_a_round_callback_cannot_keep_is_named(fits, root):
    with pytest.warns(UserWarning, match=r"^Keeps.thing: cannot be saved"):
        fits.fit(root, round_callbacks=[Keeps()])


# What is refused.


def refused(fits, root, match, kind=WorkdirError, others=(), **options):
    """Refused before any batch, with the folder as it was and nothing left that holds it."""
    before = contents(root)
    batches = networks.Batches()
    with pytest.raises(kind, match=match):
        fits.fit(root, *others, first=[batches], **options)
    assert batches.count == 0
    assert contents(root) == before
    assert fits.model._training_state is None
    with workdir_lock.held(root):
        pass


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*")
            if path.is_file() and path.name != ".lock"}


@pytest.fixture
def copy(whole, root):
    shutil.copytree(whole[1], root)
    return root


def damage(path, how):
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(data[:len(data) // 2])
    elif how == "flipped":
        path.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(b"a text\n" * 100)


@pytest.mark.parametrize("how", ["missing", "truncated", "flipped", "empty", "foreign"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_the_others_are_kept(fits, copy, name, how):
    damage(copy / name, how)
    refused(fits, copy, f"^{copy / name}: .*Restore the file")


def test_the_file_of_another_search_is_named(fits, copy, tmp_path):
    fits.fit(tmp_path / "other", criterion="random")
    name = "level_01/ticket.safetensors"
    shutil.copy(tmp_path / "other" / name, copy / name)
    refused(fits, copy, f"^{copy / name}: is not what was written: its SHA-256 does not match")


def flipped(masks):
    name, mask = next(iter(masks.items()))
    return {**masks, name: 1 - mask}


FORGERIES = {
    "masks of 7": (lambda state: {"masks": {name: 7 * mask for name, mask in state.masks.items()}},
                   "masks must be"),
    "another mask": (lambda state: {"masks": flipped(state.masks)}, "masks must be"),
    "density": (lambda state: {"round": {**state.round, "density": 5.0}}, "masks must be"),
    "epoch": (lambda state: {"epoch": 9999}, "epoch must be"),
    "counters": (lambda state: {"counters": [{"apply_gradients": 1}]}, "arrays must be"),
    "callbacks": (lambda state: {"callbacks": [{"filepath": 1}]}, "round callbacks must be"),
    "best": (lambda state: {"round": {**state.round, "best": [0.5, float("inf")]}}, "head must")}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_state_that_is_forged_with_a_right_digest_is_refused(fits, copy, what):
    forge, match = FORGERIES[what]
    path = copy / "state.safetensors"
    state = state_file.decode(path.read_bytes())
    path.write_bytes(state_file.encode(dataclasses.replace(state, **forge(state))))
    refused(fits, copy, f"{path}: .*{match}")


def renamed(arrays):
    return {f"other/{name}": array for name, array in arrays.items()}


@pytest.mark.parametrize("name", FILES[1:])
def test_a_file_of_another_model_is_refused_though_the_state_names_it(fits, copy, name):
    if name == FILES[1]:
        start = state_file.decode_start((copy / name).read_bytes())
        data = state_file.encode_start(dataclasses.replace(start, weights=renamed(start.weights)))
    else:
        ticket = lth.Ticket.load(copy / name)
        data = dataclasses.replace(ticket, weights=renamed(ticket.weights),
                                   masks=renamed(ticket.masks)).to_bytes()
    (copy / name).write_bytes(data)
    path = copy / FILES[0]
    state = state_file.decode(path.read_bytes())
    path.write_bytes(state_file.encode(dataclasses.replace(
        state, files={**state.files, name: checksums.mark(data)})))
    refused(fits, copy, f"{path}: its arrays must be those of the model")


def test_a_state_of_the_first_format_is_read_which_names_files_by_their_sha256_alone(
        fits, whole, copy):
    path = copy / FILES[0]
    head, tensors = state_file.STATE.decode(path.read_bytes())
    head["files"] = {name: mark.split()[-1] for name, mark in head["files"].items()}
    path.write_bytes(dataclasses.replace(state_file.STATE, version=1).encode(head, tensors))
    assert fits.fit(copy) == whole[0]


@pytest.mark.parametrize(("state", "fitting"), [
    ({"wait": 1, "best": np.array(0.5), "best_weights": [np.zeros(2)]}, True), ({}, True),
    ({"on_epoch_end": 1}, False), ({"on_epoch_end": None}, False), ({"monitor": "x"}, False),
    ({"monitor": 3}, False), ({"new": 1}, False), ({"wait": [1]}, False)])
def test_a_callback_is_given_only_what_it_can_have_had(state, fitting):
    inner = RoundCallbacks(callbacks.CallbackList(
        [callbacks.EarlyStopping("loss")], model=compiled(network()), epochs=1))
    inner.on_train_begin()
    assert inner.fits([state]) is fitting
    assert not inner.fits([])


@pytest.mark.parametrize("name", FILES)
def test_a_link_out_of_the_workdir_is_refused(fits, copy, tmp_path, name):
    outside = tmp_path / "outside"
    shutil.move(copy / name, outside)
    (copy / name).symlink_to(outside)
    refused(fits, copy, f"^{copy / name}: is a link, which a workdir must not contain")


def test_a_file_that_is_too_large_is_not_read(fits, copy):
    with open(copy / "state.safetensors", "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(WorkdirError, match="state.safetensors: is larger than [0-9,]+ bytes"):
        fits.fit(copy)


@pytest.mark.parametrize(("options", "match"), [
    ({"fraction": 0.2}, "schedule=.*0.3.* there, .*0.2.* asked"),
    ({"seed": 5}, "seed=0 there, 5 asked"),
    ({"rewind_step": 1}, "rewind_step=0 there, 1 asked"),
    ({"criterion": "random"}, "criterion=magnitude there, random asked"),
    ({"provenance": {"data": 1}}, "data=None there, 1 asked")], ids=str)
def test_a_search_of_other_settings_is_refused_with_what_differs(fits, copy, options, match):
    refused(fits, copy, f"A workdir holds one search. Received: {copy}, with {match}", **options)


@pytest.mark.parametrize("change", ["network", "optimizer"])
def test_another_network_or_optimizer_is_refused(copy, change):
    rate = keras.optimizers.schedules.ExponentialDecay(0.02, 4, 0.8)
    model = compiled(lth.prune_low_magnitude(networks.mlp()), keras.optimizers.Adam(rate)) \
        if change == "network" else compiled(network(), keras.optimizers.Adam(0.02))
    lottery = lth.LotteryTicketCallback(rounds=2, fraction=0.3, epochs_per_round=3, verbose=0,
                                        workdir=copy)
    with pytest.raises(WorkdirError, match=rf"{change}.* there, "):
        model.fit(X, Y, epochs=lottery.epochs, callbacks=[lottery], verbose=0)


def test_the_folder_of_a_run_is_refused(fits, root):
    root.mkdir()
    (root / "config.json").write_text("{}")
    with pytest.raises(WorkdirError, match="the folder of an `lth run`, whose config.json"):
        fits.fit(root)
    assert os.listdir(root) == ["config.json"]  # No lock has come into it.


def test_a_folder_that_cannot_be_written_is_refused(fits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="must be a folder that can be written"):
        fits.fit(tmp_path / "file" / "search")


@pytest.mark.parametrize("before", [True, False])
def test_a_backup_beside_a_workdir_is_refused(fits, root, tmp_path, before):
    backup = callbacks.BackupAndRestore(tmp_path / "backup")
    batches = networks.Batches()
    with pytest.raises(LotteryError, match="nothing else may restore a fit.*BackupAndRestore"):
        fits.fit(root, *([] if before else [backup]), first=[batches, *([backup] * before)])
    assert batches.count == 0
    fits.model._training_state = None


def test_another_first_epoch_is_refused(fits, copy):
    lottery = lth.LotteryTicketCallback(rounds=2, epochs_per_round=3, fraction=0.3, verbose=0,
                                        workdir=copy)
    with pytest.raises(LotteryError, match="same initial_epoch=0.*Received: initial_epoch=4"):
        fits.begin().fit(X, Y, initial_epoch=4, epochs=lottery.epochs, callbacks=[lottery])


def test_a_second_process_is_refused_and_the_first_goes_on(fits, whole, root):
    program = ("import sys; from lth_keras.files import workdir_lock\n"
               "try: workdir_lock.held(sys.argv[1]).__enter__()\n"
               "except workdir_lock.WorkdirError as error: print(error)")

    def second_process():  # As the command's own it does without TensorFlow.
        return subprocess.run([sys.executable, "-c", program, root], text=True, check=True,
                              capture_output=True,
                              env={**os.environ, "LTH_KERAS_WORKER": "1"}).stdout

    class Second(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                self.said = second_process()
    second = Second()
    assert fits.fit(root, second) == whole[0]
    assert second.said.startswith("A workdir can be used by one process at a time. Received: "
                                  f"{root}, which another process is using")
    assert not second_process()


@pytest.mark.parametrize(("number", "reason"), short_and_long(
    [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")],
    [(errno.ENOSPC, "No space left on device")]))
def test_a_disk_that_fills_stops_the_fit_and_the_search_goes_on_later(fits, whole, root,
                                                                       monkeypatch, *, number,
                                                                       reason):
    writes, original = itertools.count(1), os.fsync

    def full(handle):
        if next(writes) > 9:
            raise OSError(number, os.strerror(number))
        original(handle)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WorkdirError, match=f"^{root}.*: cannot be written: {reason}"):
            fits.fit(root)
    assert not [path for path in root.rglob(".*") if path.name != ".lock"]
    assert fits.fit(root) == whole[0]


class Fails(callbacks.Callback):
    """Makes the workdir fail after the fifth epoch."""

    def __init__(self, fail):
        super().__init__()
        self.fail = fail

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 4:
            self.fail()


@contextlib.contextmanager
def file_too_large(root):
    """As a full disk, for files of some size: a limit of this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def permission_denied(root):
    """A folder that becomes read-only."""
    if os.geteuid() == 0:
        pytest.skip("root may write into every folder")
    try:
        yield lambda: [os.chmod(path, 0o500) for path in (root, *root.glob("level_*"))]
    finally:
        for path in (root, *root.glob("level_*")):
            os.chmod(path, 0o700)


@pytest.mark.parametrize("failure", [file_too_large, permission_denied])
def test_a_write_that_really_fails_keeps_what_is_saved_and_the_search_goes_on(fits, whole, root,
                                                                              failure):
    reason = failure.__name__.replace("_", " ").capitalize()
    with failure(root) as fail, pytest.raises(
            WorkdirError, match=f"^{root}/.*safetensors: cannot be written: {reason}"):
        fits.fit(root, Fails(fail))
    assert not [path for path in root.rglob(".*") if path.name != ".lock"]
    # The epoch whose end was seen may have been in writing.
    assert state_file.decode((root / "state.safetensors").read_bytes()).epoch in {3, 4}
    assert fits.fit(root) == whole[0]
