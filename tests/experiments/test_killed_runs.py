"""`lth run` killed with SIGKILL, at any moment, and started again: the same bits."""

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
import small

from lth_keras.cli import main
from lth_keras.experiments import clusters
from lth_keras.experiments.config import presets
from lth_keras.experiments.results import repair
from lth_keras.files import atomic

pytestmark = pytest.mark.thorough

COMMAND = [sys.executable, "-m", "lth_keras", "run", "digits", "--steps", "40", "--rounds", "3",
           "--replicates", "2", "--set", "validation_every=10", "--workdir"]
CONFIG = presets.get("digits").replace(steps=40, rounds=3, replicates=2, validation_every=10)
WAYS = ("writing", "both", "worker", "parent")
PATIENCE = 300  # Seconds after which a run is taken to hang.
TOOK = 20  # Seconds that a run takes, about.


ON_JAX = ("--engine", "keras", "--set", "keras_backend=jax", "--together", "2")


def start(root, jobs, more=()):
    return subprocess.Popen([*COMMAND, str(root), "--jobs", str(jobs), *more],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def writing(root):
    """The temporary files that are there now."""
    return {path for path in root.rglob(".*.*") if atomic.temporary_of(path.name)}


def wait_for(process, condition):
    """Until the condition holds or the process ends; whether it held."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.0005)
    return False


def moment(process, way, root, rng):
    """Waits for a random moment; whether the process still ran then."""
    if way == "writing":
        seen, wanted = set(), rng.randint(1, 25)

        def condition():
            now = writing(root)
            seen.update(now)
            return now and len(seen) >= wanted
        return wait_for(process, condition)
    if way == "new worker":  # It is still starting, or has just begun to train.
        wait_for(process, lambda: workers_of(process))
        time.sleep(rng.uniform(0, 1))
        return process.poll() is None
    if rng.random() < 0.5:  # Most of a run is its beginning; here is the rest.
        before = len(list(root.rglob("result.json")))
        wait_for(process, lambda: len(list(root.rglob("result.json"))) > before)
        time.sleep(rng.uniform(0, 1))
    else:
        end = time.monotonic() + rng.uniform(0, TOOK)
        wait_for(process, lambda: time.monotonic() > end)
    return process.poll() is None


def workers_of(process):
    """The processes that train for a run, but for those that end just now."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # A zombie too.
            if "resource_tracker" not in " ".join(child.cmdline()):
                found.append(child)
    return found


def kill(process, way, rng):
    """Kills processes of a run; how many it killed."""
    children = workers_of(process)
    victims = [] if way in ("parent", "writing") or not children else [rng.choice(children)]
    if "worker" not in way:
        victims.append(process)
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
    return len(victims)


def kept(root):
    """All that a run leaves, but for seconds and who ran it."""
    results, contents = small.contents(root)
    for path in sorted(root.rglob("result.json")):
        plain = json.loads(path.read_text())
        assert plain.pop("sha256") and plain["row"].pop("seconds") >= 0
        contents[path.relative_to(root)] = plain
    contents["config"] = (root / "config.json").read_bytes()
    contents["names"] = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    return results, contents


def search(root, ways, seed, jobs, more=()):
    """Runs to the end, killed once in each of the ways; counts what was killed."""
    rng, counts = random.Random(seed), collections.Counter()
    ways = list(ways)
    while True:
        process = start(root, jobs, more)
        try:
            way = ways.pop(0) if ways else None
            if way and moment(process, way, root, rng) and kill(process, way, rng):
                counts[way] += 1
                counts["while a file was being written"] += bool(writing(root))
            error = process.communicate(timeout=PATIENCE)[1]
        finally:
            process.kill()
        if process.returncode == 0:
            return counts
        assert process.returncode == -signal.SIGKILL, error


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run leaves that was never killed, and whose trainings were in this process."""
    root = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(clusters.BACKENDS, "loky", small.Inline)
        assert main._main(main._parse(["lth", *COMMAND[3:], str(root)])) == 0
    return kept(root)


def test_a_run_killed_while_it_writes_ends_in_the_same_bits(tmp_path, whole):
    counts = search(tmp_path, ["writing"], 0, jobs=1)
    assert counts["writing"]
    assert kept(tmp_path) == whole
    assert repair.check(tmp_path, CONFIG) == []


def test_networks_trained_together_on_jax_end_in_the_same_bits_when_they_are_killed(tmp_path):
    pytest.importorskip("jax")
    search(tmp_path / "whole", [], 0, 1, ON_JAX)
    counts = search(tmp_path / "killed", ["writing", "new worker"], 0, 1, ON_JAX)
    assert counts["writing"] and counts["new worker"]
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole")


@pytest.mark.long
def test_fifty_kills_at_random_moments_end_in_the_same_bits(tmp_path, whole):
    total, rng, searches = collections.Counter(), random.Random(1), 0
    while sum(total[way] for way in WAYS) < 50:
        ways = [rng.choice(WAYS) for _ in range(rng.randint(2, 8))]
        root = tmp_path / str(searches)
        total += search(root, ways, rng.random(), jobs=rng.choice((1, 1, 1, 2)))
        assert kept(root) == whole
        assert repair.check(root, CONFIG) == []
        searches += 1
        print(searches, "searches,", dict(total), flush=True)
    assert total["while a file was being written"]
