"""Damage: found wherever it is, named, and mended to the same bits; what is intact stays."""

import dataclasses
import os
import pathlib
import shutil

import numpy as np
import pytest
import small
import workdirs
from small import CONFIG, contents

from lth_keras.errors import WorkdirError
from lth_keras.experiments.config.trainings import Training, trainings
from lth_keras.experiments.remaining import unfinished
from lth_keras.experiments.results import paths, repair, store
from lth_keras.experiments.results.paths import DamagedError
from lth_keras.experiments.results.store import Store
from lth_keras.files import atomic, checksums
from lth_keras.files.ticket import Ticket

FILES = ["config.json", "replicate_0/level_00/ticket.safetensors",
         "replicate_0/level_00/ticket_0/result.json", "replicate_0/level_00/ticket_0/curve.csv",
         "replicate_0/level_01/ticket.safetensors", "replicate_0/level_01/ticket_0/result.json",
         "replicate_0/level_01/reinit_0/curve.csv", "replicate_0/level_01/reinit_0/result.json",
         "replicate_0/level_02/ticket.safetensors", "replicate_0/level_02/ticket_0/result.json",
         "replicate_0/level_02/reinit_0/result.json", "replicate_0/level_03/ticket.safetensors"]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def link(path):
    """The same content, elsewhere."""
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def grow(path):
    with open(path, "ab") as file:
        file.truncate(2**30)  # A hole: it takes no room on the disk.


WAYS = {"a flipped bit": flip, "a byte cut off": cut, "gone": pathlib.Path.unlink, "a pipe": fifo,
        "a link": link, "a gigabyte": grow,
        "of something else": lambda path: path.write_bytes(b"\x89PNG")}


def snapshot(root):
    return {path.relative_to(root): (path.stat().st_size < 2**20 and path.read_bytes(),
                                     path.stat().st_mtime_ns)
            for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock"}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("done")
    workdirs.fill(root, CONFIG)
    return root


@pytest.fixture
def root(done, tmp_path):
    shutil.copytree(done, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_without_damage_has_none(root, tmp_path):
    assert repair.check(root, CONFIG) == []
    assert repair.check(root, CONFIG.replace(rounds=1)) == []
    assert repair.check(tmp_path / "nowhere", CONFIG) == []


@pytest.mark.thorough
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_damaged_file_is_named_nothing_is_touched_and_a_repair_takes_only_it(root, name, way):
    way(root / name)
    before = snapshot(root) if way is not fifo else None
    with pytest.raises(DamagedError) as caught:
        repair.prepare(root, CONFIG, False, False, print)
    assert str(root / name) in str(caught.value) and "--repair" in str(caught.value)
    assert before in (None, snapshot(root))
    said = []
    repair.prepare(root, CONFIG, True, False, said.append)
    assert str(root / name) in said[0]
    todo = unfinished(CONFIG, Store(root, CONFIG))
    assert len(todo) == (0 if name == "config.json" else 1)
    for training in todo:  # Done again to the same bits, as a training is.
        workdirs.finish(Store(root, CONFIG), training, {**workdirs.RESULT, "early_stop_step":
                                                        [*trainings(CONFIG)].index(training)})
    assert repair.check(root, CONFIG) == []
    assert unfinished(CONFIG, Store(root, CONFIG)) == []


@pytest.mark.thorough
@pytest.mark.parametrize("position", ["begin", "middle", "end"])
def test_any_byte_flipped_in_any_file_is_damage(root, done, position):
    for path in sorted(done.rglob("*")):
        if not path.is_file() or path.name == "results.csv":
            continue
        here, data = root / path.relative_to(done), bytearray(path.read_bytes())
        size = len(data)
        places = {"begin": range(12), "middle": range(20, size - 20, 97),
                  "end": range(size - 8, size)}
        for place in places[position]:
            here.write_bytes(data[:place] + bytes([data[place] ^ 0x21]) + data[place + 1:])
            assert here in [damage.path for damage in repair.check(root, CONFIG)], (here, place)
        here.write_bytes(data)
    assert repair.check(root, CONFIG) == []


def test_a_replicate_that_is_gone_is_damage(root):
    shutil.rmtree(root / "replicate_0")
    assert {damage.path.relative_to(root).as_posix() for damage in repair.check(root, CONFIG)} \
        == {name for name in FILES if name.endswith("result.json")}


def test_a_ticket_of_another_level_or_run_is_damage(root, tmp_path):
    path = Store(root, CONFIG).ticket(0, 1)
    whole = path.read_bytes()
    for other in (root / FILES[8], workdirs.fill(tmp_path / "other", CONFIG, 3.0).ticket(0, 1)):
        shutil.copy(other, path)
        assert Ticket.load(path).masks
        assert [damage.path for damage in repair.check(root, CONFIG)] == [path]
    path.write_bytes(whole)
    assert repair.check(root, CONFIG) == []


def test_records_of_another_run_are_damage(root, tmp_path):
    other = CONFIG.replace(seed=1)
    workdirs.fill(tmp_path / "other", other)
    shutil.copy(tmp_path / "other" / FILES[7], root / FILES[7])
    damage, = repair.check(root, CONFIG)
    assert damage.path == root / FILES[7]
    assert damage.why == f"is of another experiment ({other.fingerprint})"


def test_a_record_below_a_level_is_missed_even_without_results_csv(root):
    for name in (FILES[2], "results.csv"):
        (root / name).unlink()
    damage, = repair.check(root, CONFIG)
    assert (damage.path, damage.invalidates) == (root / FILES[2], Training(0, 0))
    assert damage.why == "is missing, though level 1 was trained from its ticket"


def test_a_whole_record_of_a_training_from_another_ticket_is_damage(root):
    record = store.Store(root, CONFIG).record(Training(0, 1, "reinit"))
    atomic.write(root / FILES[7], dataclasses.replace(
        record, ticket=checksums.mark(b"another")).encode())
    damage, = repair.check(root, CONFIG)
    assert (damage.path, damage.invalidates) == (root / FILES[7], Training(0, 1, "reinit"))
    assert damage.why == "was trained from another ticket than its level's"


def test_the_record_of_another_training_is_damage(root):
    shutil.copy(root / FILES[10], root / FILES[7])
    damage, = repair.check(root, CONFIG)
    assert (damage.path, damage.invalidates) == (root / FILES[7], Training(0, 1, "reinit"))
    assert damage.why == "is the record of replicate 0, level 2, reinit"


@pytest.mark.parametrize(("text", "why"), [("a,b\n", "is no table of numbers"), (
    "step,loss,accuracy,val_loss\n1,2,3,4\n", "is no curve")])
def test_a_curve_that_is_none_is_damage_though_its_record_vouches_for_it(root, text, why):
    record = store.Store(root, CONFIG).record(Training(0, 1, "reinit"))
    atomic.write(root / FILES[6], text)
    atomic.write(root / FILES[7], dataclasses.replace(
        record, curve=checksums.mark(text.encode())).encode())
    damage, = repair.check(root, CONFIG)
    assert (damage.path, damage.why, damage.invalidates) == (root / FILES[6], why, record.training)


def test_a_run_of_other_settings_is_refused_even_for_repair_and_without_its_config(root):
    other = CONFIG.replace(seed=1)
    before = snapshot(root)
    for damaged in (False, True):
        if damaged:
            (root / "config.json").unlink()
            before = snapshot(root)
        with pytest.raises(WorkdirError, match="one experiment") as caught:
            repair.prepare(root, other, True, False, print)
        assert not isinstance(caught.value, DamagedError)
        assert snapshot(root) == before


def test_a_workdir_of_an_earlier_version_is_refused_even_for_repair(root):
    import json
    (root / "config.json").write_text(json.dumps(CONFIG.to_dict(), indent=2) + "\n")
    before = snapshot(root)
    with pytest.raises(WorkdirError, match="an earlier version wrote; use another") as caught:
        repair.prepare(root, CONFIG, True, False, print)
    assert not isinstance(caught.value, DamagedError) and snapshot(root) == before


@pytest.mark.parametrize("name", ["state.safetensors", "start.safetensors"])
def test_the_folder_of_a_search_in_fit_is_refused_and_left(tmp_path, name):
    (tmp_path / name).write_bytes(b"a search")
    (tmp_path / "results.csv").write_text("level,density\n0,1.0\n")
    before = snapshot(tmp_path)
    for repairs in (False, True):
        with pytest.raises(WorkdirError, match=f"LotteryTicketCallback, whose {name}") as caught:
            repair.prepare(tmp_path, CONFIG, repairs, False, print)
        assert not isinstance(caught.value, DamagedError)
    with pytest.raises(WorkdirError, match="LotteryTicketCallback"):
        Store(tmp_path, CONFIG)
    assert snapshot(tmp_path) == before


def test_a_sealed_record_of_a_level_beyond_any_search_is_damage_and_nothing_counts_to_it(root):
    whole = store.Store(root, CONFIG).record(Training(0, 2))
    for level in (10_000, 999_999_999):
        there = Training(0, level)
        path = paths.folder(root, there) / "result.json"
        atomic.write(path, dataclasses.replace(whole, row={**whole.row, "level": level}).encode())
        assert there in paths.found(root)
        damage, = repair.check(root, CONFIG)
        assert (damage.path, damage.invalidates) == (path, there) and "level" in damage.why
        with pytest.raises(DamagedError, match=f"level_{level}/.* no possible value of level"):
            unfinished(CONFIG, Store(root, CONFIG))
        repair.prepare(root, CONFIG, True, False, print)
        assert not path.exists() and unfinished(CONFIG, Store(root, CONFIG)) == []


def test_an_interrupted_run_is_not_damage(root):
    last = [Training(0, 2), Training(0, 2, "reinit")]
    for training in last:
        (paths.folder(root, training) / "result.json").unlink()
    store.write_results(root)  # A curve, and the next ticket, without a record.
    assert repair.check(root, CONFIG) == []
    assert unfinished(CONFIG, Store(root, CONFIG)) == last


def test_what_lies_above_what_is_asked_is_repaired_too(root):
    flip(root / FILES[4])
    smaller = CONFIG.replace(rounds=0)
    repair.prepare(root, smaller, True, False, print)
    assert unfinished(smaller, Store(root, smaller)) == [Training(0, 0)]


def test_a_folder_that_is_a_link_is_damage_and_nothing_is_written_behind_it(root, tmp_path):
    shutil.move(root / "replicate_0", tmp_path / "elsewhere")
    (root / "replicate_0").symlink_to(tmp_path / "elsewhere")
    (root / "plots").symlink_to(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert [damage.path.name for damage in repair.check(root, CONFIG)] == ["plots", "replicate_0"]
    with pytest.raises(DamagedError, match="is a link"):
        store.results(root)
    assert sorted(tmp_path.rglob("*")) == before
    repair.prepare(root, CONFIG, True, False, print)
    assert not (root / "replicate_0").exists() and (tmp_path / "elsewhere").exists()
    assert unfinished(CONFIG, Store(root, CONFIG)) == list(trainings(CONFIG))


def test_temporary_files_of_a_killed_run_go_and_others_stay(root):
    ours = [root / ".config.json.12.0123abcd", root / ".results.csv.3.ffffffff",
            root / "replicate_0/level_01/.ticket.safetensors.999.00000000",
            root / "replicate_0/level_01/reinit_0/.curve.csv.1.00000000"]
    others = [root / ".notes.txt.12.0123abcd", root / ".config.json.swp",
              root / ".result.json.1.00000000"]
    for path in (*ours, *others):
        path.write_text("")
    repair.prepare(root, CONFIG, False, False, print)
    assert not any(path.exists() for path in ours) and all(path.exists() for path in others)


def test_a_dry_run_says_what_is_damaged_and_touches_nothing(root):
    flip(root / FILES[4])
    before, said = snapshot(root), []
    assert len(repair.prepare(root, CONFIG, True, True, said.append)) == len(said) == 1
    assert snapshot(root) == before


def test_a_file_that_may_not_be_read_is_no_damage(root, monkeypatch):
    def refuse(path, *arguments):
        raise PermissionError(13, "Permission denied", str(path))
    monkeypatch.setattr(atomic, "read", refuse)
    with pytest.raises(PermissionError):
        repair.prepare(root, CONFIG, True, False, print)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_network):
    root = tmp_path_factory.mktemp("trained")
    small.run(root)
    return root


@pytest.mark.usefixtures("tiny_network")
@pytest.mark.parametrize("name, again", [
    (FILES[1], [Training(0, 0)]), (FILES[4], [Training(0, 0)]), (FILES[8], [Training(0, 1)]),
    (FILES[6], [Training(0, 1, "reinit")]), (FILES[5], [Training(0, 1)])])
def test_a_repair_trains_only_what_is_damaged_to_the_same_bits(trained, tmp_path, name, again):
    root = tmp_path / "run"
    shutil.copytree(trained, root)
    intact = {path: path.stat().st_mtime_ns for path in root.rglob("result.json")
              if paths.folder(root, again[0]) != path.parent}
    flip(root / name)
    repair.prepare(root, CONFIG, True, False, print)
    assert small.run(root).begun == again
    assert contents(root) == contents(trained)
    assert all(path.stat().st_mtime_ns == before for path, before in intact.items())
    assert repair.check(root, CONFIG) == []


@pytest.mark.usefixtures("tiny_network")
def test_a_ticket_remade_to_other_bits_takes_what_followed_with_it(trained, tmp_path):
    class Another:
        """A lab whose level 0 ends otherwise, as on another machine."""

        def train_together(self, group, on_interval):
            outcome, = small.lab().train_together(group, on_interval)
            if outcome.drawn:
                outcome.following.weights["a/bias"] = np.ones(8, np.float32)
            return [outcome]
    root = tmp_path / "run"
    shutil.copytree(trained, root)
    flip(root / FILES[4])
    repair.prepare(root, CONFIG, True, False, print)
    assert small.run(root, trains=Another()).begun == list(trainings(CONFIG))
    assert repair.check(root, CONFIG) == []
    assert (Ticket.load(Store(root, CONFIG).ticket(0, 2)).weights["a/bias"] == 1).all()
