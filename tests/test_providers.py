"""What a package gets from one above it, and that `import lth_keras` registers it."""

import subprocess
import sys

import pytest

import lth_keras  # noqa: F401  Whose import registers what there is.
from lth_keras import providers
from lth_keras.errors import LotteryError
from lth_keras.files import engines


def test_every_registered_provider_is_there():
    assert providers._PROVIDERS
    for task in providers._PROVIDERS:
        assert callable(providers.provider(task))
    for module in engines.ENGINES.values():
        assert callable(__import__(module, fromlist=["apply_ticket"]).apply_ticket)


def test_a_task_that_nobody_does_names_those_that_somebody_does():
    with pytest.raises(LotteryError, match=r"report of a search.*Received: 'tea'"):
        providers.provider("tea")


def test_registering_imports_nothing():
    program = ("import sys, lth_keras\n"
               "sys.exit(bool({'lth_keras.reports.report', 'lth_keras.keras2.apply_ticket'}\n"
               "              & sys.modules.keys()))\n")
    subprocess.run([sys.executable, "-c", program], check=True)
