"""The catalogue of fits: each works, or has the limit that it states."""

import compat_fits
import pytest
from tiers import short_and_long


@pytest.mark.parametrize("name", short_and_long(
    compat_fits.CASES, ["zero", "alone.global_clipnorm", "unknown_execution", "file.keras",
                        "beside.TerminateOnNaN"]))
def test_it_works_or_has_the_limit_that_is_stated(name):
    compat_fits.CASES[name].ours()


@pytest.mark.parametrize("name", ["zero", "alone.global_clipnorm"])
def test_what_stock_tfmot_does_not_promise_is_seen(name):
    with pytest.raises(AssertionError):
        compat_fits.CASES[name].stock()
