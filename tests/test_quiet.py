import logging
import os

import pytest

from lth_keras import quiet


def test_handles_drop_what_is_written_and_come_back_after_errors(capfd):
    print("before")
    with pytest.raises(RuntimeError), quiet.handles(1, 2):
        os.write(1, b"dropped")
        os.write(2, b"dropped")
        raise RuntimeError
    os.write(2, b"error")
    os.write(1, b"after")
    assert capfd.readouterr() == ("before\nafter", "error")


def test_only_the_named_handles_are_quiet(capfd):
    with quiet.handles(2):
        os.write(1, b"out")
        os.write(2, b"err")
    assert capfd.readouterr() == ("out", "")


def test_logs_up_to_a_level_are_dropped(caplog):
    log = logging.getLogger("tests.quiet")
    with pytest.raises(RuntimeError), quiet.logs(logging.WARNING):
        log.warning("dropped")
        log.error("kept")
        raise RuntimeError
    log.warning("after")
    assert [record.message for record in caplog.records] == ["kept", "after"]
