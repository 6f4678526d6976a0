"""What all tests and doctests share: processes, a quiet TensorFlow, generated cases that repeat."""

import gc
import os
import tempfile

import pytest
from hypothesis import settings

# Collections of garbage would go time and again over the 700,000 objects that imports make.
gc.disable()
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # What JAX has compiled once, no test or process that a test starts compiles again.
    _compiled = tempfile.TemporaryDirectory(prefix="compiled", ignore_cleanup_errors=True)
    os.environ.update({"JAX_COMPILATION_CACHE_DIR": _compiled.name,
                       "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                       "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"})
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

# What only serves tests, and classes that name the package as their module without lying in it:
# tests/test_saved_names.py runs their examples where they lie.
collect_ignore = ["tests/support", "lth_keras/__init__.py"]


def pytest_xdist_auto_num_workers(config):
    """One process for single files: a second would load TensorFlow for nothing.

    Otherwise as many as there are cores: a test that waits does so for a process that it has
    started, which is as busy.
    """
    single = all(path.partition("::")[0].endswith(".py") for path in config.args)
    return 0 if single or os.cpu_count() == 1 else os.cpu_count() or 1


def pytest_collection_finish():
    """What is loaded by now stays; from here on, garbage is collected of what tests make."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 10)
    gc.enable()


@pytest.fixture(autouse=True)
def inline_examples(request, monkeypatch):
    """The examples of `lth.run` train in this process: tests/api/test_run.py starts a worker."""
    if isinstance(request.node, pytest.DoctestItem) and request.path.match("lth_keras/api/run.py"):
        import small

        from lth_keras.experiments import clusters
        monkeypatch.setitem(clusters.BACKENDS, "loky", small.Inline)


@pytest.fixture(scope="module")
def tiny_network():
    """The network "tiny", known by name to a module's tests."""
    import small

    from lth_keras.experiments.training.networks import NETWORKS
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "tiny", small.tiny)
        yield
