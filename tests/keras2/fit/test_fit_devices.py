"""A search in `fit` on two devices and by two processes: the masks of one device."""

import devices
import mirrored
import pytest
from processes import finish, started
from tiers import short_and_long

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize(("strategy", "optimizer"), short_and_long(
    [(strategy, optimizer) for strategy in devices.STRATEGIES
     for optimizer in (*devices.OPTIMIZERS, devices.SUBCLASSED)],
    [("mirrored", devices.SUBCLASSED)]))
def test_two_replicas_find_the_masks_of_one_device(strategy, optimizer, tmp_path):
    devices.compare(strategy, optimizer, tmp_path)


@pytest.mark.parametrize("ways", [["killed"], pytest.param(
    ["killed", "killed again", "stopped"], marks=pytest.mark.long)], ids=len)
def test_a_search_on_two_devices_goes_on_from_a_workdir_in_the_same_bits(ways, tmp_path):
    finish([started(mirrored.main, tmp_path, ways)], devices.LIMIT)
