import contextlib
import io
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


def test_no_handler_of_a_stream_that_is_gone_is_left(monkeypatch, capsys):
    monkeypatch.setattr(logging.root, "handlers", [])
    with io.StringIO() as gone, quiet.logs(logging.CRITICAL), contextlib.redirect_stderr(gone):
        logging.warning("dropped")
    logging.warning("after")
    assert capsys.readouterr().err == "WARNING:root:after\n"
