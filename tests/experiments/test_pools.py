"""Workers in processes: whoever trains, and whoever dies, the bits are the same."""

import contextlib
import importlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import small
from tiers import short_and_long

from lth_keras.errors import LotteryError
from lth_keras.experiments import pools, worker
from lth_keras.experiments.clusters import Dask, Ray
from lth_keras.experiments.config import presets
from lth_keras.experiments.config.trainings import Training, trainings
from lth_keras.experiments.experiment import Experiment, WorkerDiedError
from lth_keras.experiments.pools import InProcess, LocalPool, Pool
from lth_keras.experiments.remaining import unfinished
from lth_keras.experiments.results.outcome import Speed, StartingPoint
from lth_keras.experiments.results.store import Store
from lth_keras.experiments.training import datasets
from lth_keras.experiments.training_keras2 import engine
from lth_keras.experiments.worker import Placement, StepCounter
from lth_keras.files.ticket import Ticket

CONFIG = presets.get("digits").replace(steps=200, rounds=1, replicates=2, validation_every=10,
                                       learning_rate=0.01, branches=("ticket", "reinit"))
PATIENCE = 60  # Seconds after which something is taken never to happen.
# The pool, its processes, its package, and whether one of the processes is killed.
POOLS = {"loky": (LocalPool, 1, None, True), "loky, left alone": (LocalPool, 1, None, False),
         "loky, two": (LocalPool, 2, None, True), "ray": (Ray, 1, "ray", True),
         "ray, two": (Ray, 2, "ray", True), "dask": (Dask, 1, "distributed", True),
         "dask, two": (Dask, 2, "distributed", True)}


def until(condition):
    """Waits for a condition; whether it came."""
    end = time.monotonic() + PATIENCE
    while not (there := condition()) and time.monotonic() < end:
        time.sleep(0.002)
    return there


class Killing:
    """A pool one of whose processes is killed in the middle of the fourth training."""

    def __init__(self, pool):
        self.slots, self.steps, self.together, self._pool = pool.slots, pool.steps, 1, pool
        self.submitted, self.killed = [], None

    def submit(self, group):
        before = self.steps()
        future = self._pool.submit(group)
        self.submitted += [training for training, _ in group]
        if len(self.submitted) == 4:
            assert until(lambda: self.steps() > before) and not future.done()
            self.killed = random.Random(0).choice(sorted(self.processes))
            os.kill(self.killed, signal.SIGKILL)
        return future


def pids(pool):
    def own():  # By value for clusters: workers cannot import tests.
        return os.getpid()
    asked = os.getpid if isinstance(pool, pools.LocalPool) else own
    return {pool._call(asked).result() for _ in range(8)}


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    root = tmp_path_factory.mktemp("here")
    small.run(root, CONFIG, trains=engine.round_runner(CONFIG, datasets.load("digits")))
    return small.contents(root)


@pytest.fixture(scope="module", params=short_and_long(POOLS, ["loky"]))
def done(request, tmp_path_factory):
    """What is left of a run in a pool, in which a process may have been killed."""
    kind, jobs, package, kills = POOLS[request.param]
    if package:
        pytest.importorskip(package)
    store, watch = Store(tmp_path_factory.mktemp(request.param), CONFIG), small.Watch()
    left = {"before": {process.pid for process in psutil.Process().children(recursive=True)}}
    with contextlib.closing(kind(jobs, list(trainings(CONFIG)), CONFIG, Placement())) as pool:
        left["speeds"] = pool.measure()
        trains = Killing(pool) if kills else pool
        if kills:
            trains.processes = pids(pool)
            left["processes"] = trains.processes
        Experiment(CONFIG, store, watch, trains).run()
        left["steps"], left["trains"], left["watch"] = pool.steps(), trains, watch
        bad = CONFIG.replace(validation_size=100_000)
        pool._task = json.dumps(bad.to_dict()), Placement()
        for wrong in (pool.measure, pool.submit([(Training(0, 0), StartingPoint())]).result):
            with pytest.raises(LotteryError) as caught:
                wrong()
            left.setdefault("errors", []).append(caught.value)
    left["root"] = store.root
    children = psutil.Process().children(recursive=True)
    left["after"] = [child for child in children if child.pid not in left["before"]
                     and "resource_tracker" not in " ".join(child.cmdline())]
    return left


@pytest.mark.thorough
def test_whoever_trains_the_bits_are_the_same(done, here):
    results, files = small.contents(done["root"])
    assert results == here[0]
    assert list(files) == list(here[1])
    assert [path for path in files if files[path] != here[1][path]] == []


@pytest.mark.thorough
def test_a_killed_process_is_replaced_and_its_training_done_again(done):
    begun = done["watch"].begun
    assert set(begun) == set(done["watch"].ended) == set(trainings(CONFIG))
    assert len(done["watch"].ended) == 6
    if isinstance(done["trains"], Killing):
        assert gone(done["trains"].killed)
        assert done["trains"].killed in done["processes"]


@pytest.mark.thorough
def test_steps_are_counted_once_in_a_pool(done):
    assert done["steps"] == 6 * CONFIG.steps
    assert done["watch"].done[-1] == done["steps"]


@pytest.mark.thorough
def test_every_process_is_measured(done):
    assert len(done["speeds"]) == getattr(done["trains"], "slots", 1)
    assert all(speed.step >= 0 and speed.compilation > 0 for speed in done["speeds"])


@pytest.mark.thorough
def test_an_error_of_the_settings_reaches_the_caller_with_its_text(done):
    for error in done["errors"]:
        assert type(error) is LotteryError
        assert str(error).startswith("validation_size and batch_size must leave examples")
        assert "digits has 1,437" in str(error) and "\n" not in str(error)


@pytest.mark.thorough
def test_close_leaves_no_process_behind(done):
    assert until(lambda: not [child for child in done["after"] if not gone(child.pid)])


# A run that says who works for it, and then goes on for long.
_LONG = """
import sys
from lth_keras.experiments.config import presets
from lth_keras.experiments.config.trainings import trainings
from lth_keras.experiments.experiment import Experiment
from lth_keras.experiments.pools import LocalPool
from lth_keras.experiments.results.store import Store
from lth_keras.experiments.worker import Placement
import os, small
config = presets.get("digits").replace(steps=1_000_000, replicates=1, validation_every=10)
pool = LocalPool(2, list(trainings(config)), config, Placement())
class Watch(small.Watch):
    said = False
    def steps(self, done):
        if done and not self.said:
            self.said = True
            print(*sorted(pool._executor._processes), flush=True)
Experiment(config, Store(sys.argv[1], config), Watch(), pool).run()
"""


@pytest.fixture(scope="module")
def orphans(tmp_path_factory):
    """Two workers whose starter was killed: those that have ended since, the others, and the
    temporary folders of runs, before and after.

    One was training; the other, at level 0 of a single replicate, had nothing to do.
    """
    root, temporary = tmp_path_factory.mktemp("long"), tmp_path_factory.mktemp("temporary")
    starter = subprocess.Popen([sys.executable, "-c", _LONG, str(root)], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               env={**os.environ, "PYTHONPATH": os.path.dirname(small.__file__),
                                    "TMPDIR": str(temporary)})
    found = [psutil.Process(int(pid)) for pid in starter.stdout.readline().split()]
    assert len(found) == 2 and all(process.is_running() for process in found)
    before = [*temporary.glob("lth_*")]
    starter.kill()
    starter.wait()
    starter.stdout.close()
    ended, alive = psutil.wait_procs(found, timeout=10)
    for process in alive:
        process.kill()
    return ended, alive, before, [*temporary.glob("lth_*")]


@pytest.mark.thorough
def test_a_worker_that_trains_ends_when_its_starter_died(orphans):
    assert orphans[0]


@pytest.mark.thorough
def test_a_worker_that_waits_ends_when_its_starter_died(orphans):
    assert not orphans[1]


def test_a_worker_that_starts_when_its_starter_is_dead_already_ends(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    program = ("import os, sys, time\n"
               "from lth_keras.experiments.worker import exit_with_parent\n"
               f"exit_with_parent(os.getppid() + 1, {str(folder)!r})\n"  # Of another process.
               "time.sleep(60)\n")
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 1
    assert not folder.exists()


@pytest.mark.thorough
def test_the_temporary_folder_of_a_starter_that_died_goes_with_its_workers(orphans):
    assert len(orphans[2]) == 1 and not orphans[3]


@pytest.fixture
def nobody():
    """A port at which nothing answers: bound, so that nobody else takes it."""
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("kind, variable, address", [
    (Ray, "RAY_ADDRESS", "127.0.0.1:{}"), (Ray, "RAY_ADDRESS", "ray://127.0.0.1:{}"),
    (Dask, "DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:{}")])
def test_a_cluster_that_is_not_there_is_an_error_and_not_waited_for(
        kind, variable, address, nobody, monkeypatch):
    pytest.importorskip("ray" if kind is Ray else "distributed")
    monkeypatch.setenv(variable, address.format(nobody))
    with pytest.raises(LotteryError, match=f"{variable} must be the address of a running cluster. "
                                           f"Received: .*:{nobody}, where nothing answers"):
        kind(1, list(trainings(CONFIG)), CONFIG, Placement())


@pytest.mark.parametrize("kind, package, extra", [(Ray, "ray", "ray"),
                                                  (Dask, "distributed", "dask")])
def test_a_missing_extra_is_an_error_that_says_how_to_install_it(
        kind, package, extra, monkeypatch):
    def missing(name):
        assert name == package
        raise ImportError(name)
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(LotteryError) as caught:
        kind(1, list(trainings(CONFIG)), CONFIG, Placement())
    assert str(caught.value) == (
        f"backend {extra!r} (--backend {extra}) needs the package {package}, which is not "
        "installed. Received: no such package. "
        f"Run: python -m pip install 'lth_keras[{extra}]'")


@pytest.mark.parametrize("jobs, changes, slots", [
    (3, {}, 3), (50, {}, 4), (50, {"replicates": 1}, 2), (50, {"branches": "ticket"}, 2),
    (50, {"replicates": 1, "rounds": 0}, 1), (1, {}, 1), (None, {}, 4)])
def test_there_are_no_more_processes_than_can_be_busy(jobs, changes, slots, monkeypatch):
    monkeypatch.setattr(Pool, "_cores", lambda self: 16)
    config = CONFIG.replace(**changes)
    assert Pool(jobs, list(trainings(config)), config, Placement()).slots == slots


def test_a_run_that_is_nearly_done_needs_one_process():
    assert Pool(8, [Training(0, 2)], CONFIG, Placement()).slots == 1


@pytest.mark.parametrize("error, raised", [
    (None, None), (LotteryError("no"), LotteryError), (OSError("broken"), WorkerDiedError),
    (ValueError("bug"), ValueError)])
def test_the_error_of_a_worker_that_died_is_told_from_others(error, raised):
    inner = pools.Future()
    outer = pools.translated(inner, OSError)
    inner.set_result(3) if error is None else inner.set_exception(error)
    if error is None:
        assert outer.result() == 3
    else:
        with pytest.raises(raised, match="OSError" if raised is WorkerDiedError else str(error)):
            outer.result()


def test_work_that_was_cancelled_counts_as_a_death():
    inner = pools.Future()
    outer = pools.translated(inner, OSError)
    inner.cancel()
    inner.set_running_or_notify_cancel()
    assert isinstance(outer.exception(timeout=PATIENCE), WorkerDiedError)


def test_steps_add_up_and_are_counted_anew_for_a_training_tried_again():
    tally = StepCounter(CONFIG)
    assert tally.total() == 0
    one, other = (tally.slot(training) for training in (Training(0, 0), Training(1, 0)))
    assert one == tally.slot(Training(0, 0)) != other
    tally.finish(Training(1, 0))
    assert tally.total() == CONFIG.steps
    tally.finish(Training(1, 0))
    assert tally.total() == CONFIG.steps


class Counting:
    """In place of a lab."""

    def __init__(self, tally):
        self._counter, self.totals = tally, []

    def train_together(self, group, on_interval):
        for _ in range(3):
            on_interval(0, 10)
            self.totals.append(self._counter.total())
        return ["outcome"]


def test_steps_are_seen_while_a_training_runs(monkeypatch):
    tally = StepCounter(CONFIG)
    lab = Counting(tally)
    monkeypatch.setattr(worker, "_kept_runner", lambda config, placement: lab)
    for _ in range(2):  # The second time it begins anew.
        assert worker.train("", Placement(), [(Training(0, 1), None)],
                            [tally.slot(Training(0, 1))]) == ["outcome"]
    assert lab.totals == [10, 20, 30] * 2
    # A worker on another machine does not find the file, and trains all the same.
    assert worker.train("", Placement(), [(Training(0, 1), None)],
                        [("/nowhere/steps", 3)]) == ["outcome"]
    assert tally.total() == 30


def test_here_counts_its_steps(tmp_path, tiny_network):
    config = small.CONFIG.replace(rounds=0)
    trains = InProcess(small.lab(config))
    Experiment(config, Store(tmp_path, config), small.Watch(), trains).run()
    assert trains.steps() == config.steps and trains.slots == 1
    assert unfinished(config, Store(tmp_path, config)) == []
    assert Ticket.load(Store(tmp_path, config).ticket(0, 1)).level == 1


def test_a_worker_that_has_trained_keeps_its_threads():
    class Settings:
        """As TensorFlow's, once it has begun: only what is set already can be set."""

        def set_intra_op_parallelism_threads(self, threads):
            if threads != 1:
                raise RuntimeError("Intra op parallelism cannot be modified after initialization.")

        set_inter_op_parallelism_threads = set_intra_op_parallelism_threads

        def get_intra_op_parallelism_threads(self):
            return 1

    engine._set_threads(1, Settings())
    with pytest.raises(LotteryError, match=r"\(--threads\) must stay .* 1. Received: 2. Restart"):
        engine._set_threads(2, Settings())


@pytest.mark.parametrize("deaths, ends", [(0, True), (2, True), (3, False)])
def test_a_worker_that_dies_while_it_is_measured_is_replaced(deaths, ends):
    class Dying(Pool):
        """A pool whose first processes die."""

        left = deaths

        def _call(self, function, *arguments):
            future = pools.Future()
            if self.left:
                self.left -= 1
                future.set_exception(WorkerDiedError("killed"))
            else:
                future.set_result(Speed(1.0, 1e-3, 1e-3, 1e-3))
            return future
    pool = Dying(1, list(trainings(CONFIG)), CONFIG, Placement())
    if ends:
        assert pool.measure() == [Speed(1.0, 1e-3, 1e-3, 1e-3)]
    else:
        with pytest.raises(LotteryError, match="its speed is measured. Received: 3 attempts"):
            pool.measure()
