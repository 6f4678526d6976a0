"""A search in `fit` on two devices and by two processes: the masks of one device."""

import pathlib
import subprocess
import sys

import devices
import pytest
from fits import short_and_long


@pytest.mark.parametrize(("strategy", "optimizer"), short_and_long(
    [(strategy, optimizer) for strategy in devices.STRATEGIES
     for optimizer in (*devices.OPTIMIZERS, devices.SUBCLASSED)],
    [("mirrored", devices.SUBCLASSED), ("workers", "average")]))
def test_two_replicas_find_the_masks_of_one_device(strategy, optimizer, tmp_path):
    devices.compare(strategy, optimizer, tmp_path)


def test_a_search_on_two_devices_goes_on_from_a_workdir_in_the_same_bits(tmp_path):
    program = pathlib.Path(__file__).parents[2] / "support" / "mirrored.py"
    done = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True,
                          timeout=devices.LIMIT, check=False)
    assert done.stdout.splitlines()[-2:] == ["killed same bits", "stopped same bits"], \
        done.stderr[-3000:]
