"""What all tests share: a quiet TensorFlow, and generated cases that repeat."""

import os

import pytest
from hypothesis import settings

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="module")
def tiny_network():
    """The network "tiny", known by name to a module's tests."""
    import small

    from lth_keras.experiments.training import models
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.NETWORKS, "tiny", small.tiny)
        yield
