import logging
import os

import pytest

from lth_keras import quiet
from lth_keras.errors import one_line


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


@pytest.mark.parametrize("longest", [10, 11, 12])
def test_a_line_is_cut_where_it_is_too_long(longest):
    line = one_line("two\n\n  words  x", longest)
    assert line == ("two words x" if longest >= 11 else "two wor...") and len(line) <= longest
