"""Runs trainings in worker processes of Ray or Dask, on this machine or on a cluster.

    Ray     the cluster that RAY_ADDRESS names, or a new one on this machine
    Dask    the cluster that DASK_SCHEDULER_ADDRESS names, or a new one on this machine

Workers load the data set by its name, so every machine of a cluster must have it.
"""

import importlib
import logging
import os
import re
import socket
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from lth_keras.errors import LotteryError
from lth_keras.experiments.pools import LocalPool, Pool, translated

_TIMEOUT = 10  # Seconds to wait for a cluster to accept a connection.


class Ray(Pool):
    """Worker processes of a Ray cluster."""

    def __init__(self, *arguments: Any):
        self._ray = _extra("ray")
        self._ours = not self._ray.is_initialized()  # A caller's own connection stays open.
        # An existing cluster is asked for its cores first, which set the number of slots; a new
        # one is started with as many cores as there are slots.
        if "RAY_ADDRESS" in os.environ:
            _check_answers("RAY_ADDRESS")
            self._connect()
        super().__init__(*arguments)
        if "RAY_ADDRESS" not in os.environ:
            self._connect(num_cpus=self.slots, include_dashboard=False)

    def _connect(self, **local: Any) -> None:
        if self._ours:
            self._ray.init(log_to_driver=False, logging_level="ERROR",
                           runtime_env={"env_vars": self._environment}, **local)

    def _cores(self) -> int:
        return int(self._ray.cluster_resources()["CPU"]) if self._ray.is_initialized() \
            else super()._cores()

    def _call(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        # No retries by Ray: `Experiment` itself repeats a training, at most ATTEMPTS times.
        remote = self._ray.remote(num_cpus=1, max_retries=0)(function)
        errors = self._ray.exceptions
        return translated(remote.remote(*arguments).future(),
                           (errors.WorkerCrashedError, errors.NodeDiedError,
                            errors.OutOfMemoryError, errors.LocalRayletDiedError))

    def close(self) -> None:
        """Disconnects from the cluster, and stops it if this process started it."""
        if self._ours:
            self._ray.shutdown()


class Dask(Pool):
    """Worker processes of a Dask cluster; each trains one network at a time."""

    def __init__(self, *arguments: Any):
        self._distributed = _extra("distributed", extra="dask")
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        self._client: Any = None
        self._cluster: Any = None
        if "DASK_SCHEDULER_ADDRESS" in os.environ:
            _check_answers("DASK_SCHEDULER_ADDRESS")
            self._client = self._distributed.Client()
        super().__init__(*arguments)
        if self._client is None:
            self._cluster = self._distributed.LocalCluster(
                n_workers=self.slots, threads_per_worker=1, dashboard_address="127.0.0.1:0",
                env=self._environment, silence_logs=logging.CRITICAL)
            self._client = self._distributed.Client(self._cluster)

    def _cores(self) -> int:
        return len(self._client.nthreads()) if self._client else super()._cores()

    def _call(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        # pure=False: Dask would return the cached result of an equal call, as of a measurement.
        inner = self._client.get_executor(pure=False, retries=0).submit(function, *arguments)
        return translated(inner, self._distributed.KilledWorker)

    def close(self) -> None:
        """Disconnects from the cluster, and stops it if this process started it."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _check_answers(variable: str) -> None:
    # Ray would try to connect forever.  Addresses without a port, such as "auto", are left to Ray.
    address = os.environ[variable]
    place = re.fullmatch(r"(?:(?:ray|tcp|tls)://)?\[?([^/\[\]]+)\]?:([0-9]{1,5})", address)
    if place is None:
        return
    try:
        socket.create_connection((place[1], int(place[2])), _TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise LotteryError(f"{variable} must be the address of a running cluster. Received: "
                           f"{address}, where nothing answers ({error}). Start the cluster, or "
                           f"unset {variable} for one on this machine.") from None


BACKENDS: dict[str, type[Pool]] = {"loky": LocalPool, "ray": Ray, "dask": Dask}


def _extra(package: str, extra: str = "") -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        name = extra or package
        raise LotteryError(f"backend {name!r} (--backend {name}) needs the package {package}, "
                           "which is not installed. Received: no such package. Run: python -m pip "
                           f"install 'lth_keras[{name}]'") from None
