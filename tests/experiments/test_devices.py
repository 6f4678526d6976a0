"""What a run finds out about engines and devices before it starts processes."""

import subprocess
import types

import pytest

from lth_keras.experiments import devices, pools, worker
from lth_keras.experiments.config import presets
from lth_keras.experiments.config.trainings import trainings
from lth_keras.experiments.worker import Placement

TF_KERAS = presets.get("digits")
JAX = TF_KERAS.replace(engine="keras", keras_backend="jax")
TORCH = TF_KERAS.replace(engine="keras", keras_backend="torch")


@pytest.mark.parametrize(("config", "package"), [
    (TF_KERAS, "training_keras2"), (JAX, "training_keras3"), (TORCH, "training_keras3")])
def test_the_engine_is_that_of_the_settings(config, package):
    assert worker.engine_of(config).__name__ == f"lth_keras.experiments.{package}.engine"


def test_processes_get_the_backend_and_its_threads_by_their_environment(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_mine=1")
    plain = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    assert worker.environment(TF_KERAS, Placement()) == plain
    keras = {**plain, "KERAS_BACKEND": "torch", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    assert worker.environment(TORCH, Placement()) == keras
    one = worker.environment(JAX, Placement(threads=1))
    assert (one["KERAS_BACKEND"], one["NPROC"]) == ("jax", "1")
    assert one["XLA_FLAGS"] == "--xla_mine=1 --xla_cpu_multi_thread_eigen=false"
    assert worker.environment(JAX, Placement(threads=4))["XLA_FLAGS"] == "--xla_mine=1"
    assert "NPROC" not in worker.environment(JAX, Placement(threads=0))


@pytest.mark.parametrize(("said", "accelerator"), [
    ("gpu\n", True), ("tpu\n", True), ("cpu\n", False), ("a warning\ngpu\n", True), ("", False),
    (subprocess.CalledProcessError(1, "python"), False), (OSError(), False)])
def test_a_gpu_is_used_by_one_process(monkeypatch, said, accelerator):
    def run(*_, **__):
        if isinstance(said, Exception):
            raise said
        return types.SimpleNamespace(stdout=said)
    monkeypatch.setattr(devices.subprocess, "run", run)
    devices._jax_has.cache_clear()
    assert devices.has_accelerator(JAX) is accelerator
    assert not devices.has_accelerator(TF_KERAS) and not devices.has_accelerator(TORCH)
    monkeypatch.setattr(pools.joblib, "cpu_count", lambda: 7)
    many = JAX.replace(replicates=10)
    asked = [pools.Pool(jobs, list(trainings(many)), many, Placement()).slots for jobs in (None, 3)]
    assert asked == [1 if accelerator else 7, 3]
    devices._jax_has.cache_clear()


def test_groups_are_as_large_as_the_placement_or_the_device_says():
    asked = pools.Pool(1, list(trainings(JAX)), JAX, Placement(together=6))
    assert asked.together == 6

    class Measured(pools.Pool):
        def _call(self, *_):
            done = pools.Future()
            done.set_result(pools.Speed(1.0, 1.0, 1.0, 1.0, together=4))
            return done
    found = Measured(1, list(trainings(JAX)), JAX, Placement())
    assert found.together == 1
    found.measure()
    assert found.together == 4
