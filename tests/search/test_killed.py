"""Processes killed by SIGKILL, and what the next one makes of what they left, on every engine."""

import pathlib
import random
import signal
import time

import killed
import pytest
from processes import PROCESSES, started

pytestmark = pytest.mark.thorough

KILLS = 30  # For each seed of the long form.


class Fit:
    """A process that searches in a workdir, killed by itself at a moment if one is given."""

    def __init__(self, engine, workdir, *moment):
        self.pipe, theirs = PROCESSES.Pipe(duplex=False)
        # The process that others are made from has Keras 3 on TensorFlow.
        self.process = started(killed.main, theirs, engine, workdir, *moment,
                               fresh=engine.startswith("jax"))
        theirs.close()

    def hear(self):
        """What it says next, or None if it was killed before."""
        try:
            return self.pipe.recv()
        except EOFError:
            return None

    def end(self):
        """What its search came to, or None if it was killed."""
        said = self.hear()
        said = self.hear() if said == "begun" else said
        self.process.join()
        # Killed after its last word, it has searched to the end all the same.
        assert self.process.exitcode == -signal.SIGKILL or (said and self.process.exitcode == 0)
        return said


def unfinished(workdir):
    """What was being written."""
    return list(pathlib.Path(workdir).rglob(".*.safetensors.*"))


@pytest.fixture(scope="module", params=[*killed.ENGINES, *(
    pytest.param(engine + killed.OF_FILTERS, marks=pytest.mark.long) for engine in killed.ENGINES)])
def engine(request):
    pytest.importorskip(request.param.removesuffix(killed.OF_FILTERS))
    return request.param


@pytest.fixture(scope="module")
def folder(engine, tmp_path_factory):
    return tmp_path_factory.mktemp(f"killed_{engine}")


@pytest.fixture(scope="module")
def never_killed(engine, folder):
    """What a search comes to that was never killed."""
    return Fit(engine, folder / "whole").end()


def test_a_search_that_is_killed_ends_in_the_same_bits(engine, folder, never_killed):
    workdir = folder / "killed"
    # When theta_k and its ticket are saved and the state is not.
    assert Fit(engine, workdir, "replace", 5).end() is None
    assert len(unfinished(workdir)) == 1
    assert (workdir / "level_00" / "ticket.safetensors").exists()
    assert Fit(engine, workdir).end() == never_killed
    assert not unfinished(workdir)


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
def test_a_search_that_is_killed_at_any_moment_ends_in_the_same_bits(
        engine, folder, never_killed, seed):
    draw, kills, writing, searches = random.Random(seed), 0, 0, 0
    while kills < KILLS:
        workdir, result = folder / f"random_{seed}_{searches}", None
        while result is None:
            fit = Fit(engine, workdir)
            kill_at_random(fit, workdir, draw)
            result = fit.end()
            if result is None:
                kills += 1
                writing += bool(unfinished(workdir))
                print(f"{engine}: {kills} kills, {writing} while a file was being written",
                      flush=True)
        assert result == never_killed
        searches += 1
        print(f"{engine}: {searches} searches ended in the bits of one never killed", flush=True)
    assert writing >= KILLS / 10


def kill_at_random(fit, workdir, draw):
    """Kills a process while it starts, while it trains, or as soon as it writes a file then."""
    if draw.random() < 0.1:
        time.sleep(draw.uniform(0, 3))
    elif fit.pipe.poll(120):
        time.sleep(draw.uniform(0, 1.5))
        patience = time.monotonic() + (2 if draw.random() < 0.4 else 0)
        while not unfinished(workdir) and fit.process.is_alive() and time.monotonic() < patience:
            time.sleep(0.0005)
    fit.process.kill()
