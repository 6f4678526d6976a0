import os
import signal
import subprocess
import sys

import pytest

from lth_keras.errors import WorkdirError
from lth_keras.files import workdir_lock

HOLDER = """
import sys, time
from lth_keras.files import workdir_lock as locks
with locks.held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def hold(root):
    """Takes a lock and lets it go again."""
    with workdir_lock.held(root):
        pass


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], text=True,
                               stdout=subprocess.PIPE)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_with_the_first_ones_number_until_that_is_killed(
        holder, tmp_path):
    for _ in range(2):  # Being refused takes nothing from the holder.
        with pytest.raises(WorkdirError, match="one process at a time. Received: ") as caught:
            hold(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert f"(process {holder.pid} on " in str(caught.value)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with workdir_lock.held(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_lock_can_be_taken_again_after_its_release(tmp_path):
    for _ in range(2):
        with workdir_lock.held(tmp_path), pytest.raises(WorkdirError,
                                                        match="one process at a time"):
            hold(tmp_path)
    assert os.listdir(tmp_path) == [".lock"]


def test_folders_made_for_a_lock_go_again_if_nothing_came_into_them(tmp_path):
    with workdir_lock.held(tmp_path / "a" / "b"):
        pass
    assert os.listdir(tmp_path) == []
    with workdir_lock.held(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "kept").write_text("")
    assert sorted(os.listdir(tmp_path / "a" / "b")) == [".lock", "kept"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\x1b[2J", b"x" * 10_000])
def test_what_a_lock_file_says_is_no_more_than_a_remark(tmp_path, content):
    with workdir_lock.held(tmp_path):
        (tmp_path / ".lock").write_bytes(content)
        with pytest.raises(WorkdirError) as caught:
            hold(tmp_path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


def test_a_link_in_the_locks_place_is_refused_and_what_it_leads_to_is_left(tmp_path):
    (tmp_path / "other").write_text("as it was")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "other")
    with pytest.raises(WorkdirError, match=r"\.lock"):
        hold(tmp_path / "run")
    assert (tmp_path / "other").read_text() == "as it was"


def test_a_folder_that_is_not_to_be_touched_is_left_as_it_is(tmp_path):
    for folder in (tmp_path / "there", tmp_path / "nowhere"):
        with pytest.raises(ZeroDivisionError), workdir_lock.held(folder, lambda: 1 / 0):
            pass
    assert os.listdir(tmp_path) == []


def test_a_folder_that_became_anothers_before_the_lock_was_taken_is_let_go(tmp_path):
    answers = iter([None, WorkdirError("another's")])

    def check():
        if error := next(answers):
            with pytest.raises(WorkdirError, match="one process at a time"):
                hold(tmp_path)  # This time the lock is ours.
            raise error
    with pytest.raises(WorkdirError, match="another's"), workdir_lock.held(tmp_path, check):
        pass
    hold(tmp_path)
