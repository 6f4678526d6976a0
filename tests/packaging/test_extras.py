"""What a search in `fit` does without: the extras, and the errors that name them."""

import configparser
import os
import pathlib
import re
import subprocess
import sys

import pytest

from lth_keras import extras
from lth_keras.errors import LotteryError

ROOT = pathlib.Path(__file__).parents[2]
BROUGHT = {name for packages in extras.EXTRAS.values() for name in packages}
# Hides the packages of all extras from a process.
HIDDEN = f"names = {BROUGHT | {'importlib_resources', 'tensorflow_metadata'}}" + """
import sys


class Hidden:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *arguments):
        return None if name.partition(".")[0] in names else self.finder.find_spec(name, *arguments)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Hidden(finder) for finder in sys.meta_path]
"""
FIT = """
import numpy as np
import tf_keras as keras
import lth_keras as lth

model = lth.prune_low_magnitude(keras.Sequential(
    [keras.layers.Input((4,)), keras.layers.Dense(10), keras.layers.Dense(1)]))
model.compile("adam", "mse")
bird = lth.EarlyBird(patience=2)
lottery = lth.LotteryTicketCallback(
    rounds=2, epochs_per_round=2, workdir="search", round_callbacks=[bird])
model.fit(np.ones((8, 4)), np.ones(8), epochs=lottery.epochs, callbacks=[lottery], verbose=0)
assert lottery.results.density.round(2).tolist() == [1.0, 0.8, 0.64]
lottery.ticket.save("winner.ticket")
lth.Ticket.load("winner.ticket")
plain = lth.strip_pruning(model)
lth.profile(lth.compact(plain).model)
data = np.ones((8, 4), "float32"), np.ones(8, "float32")
assert lth.export(plain, "deploy", data=data, formats=["keras"]).shipped == ["keras"]

for what, call in {
        "lth.run": lambda: lth.run("digits"),
        "lottery.report": lambda: lottery.report(),
        "bird.plot": lambda: bird.plot("bird.png"),
        "lottery.plot": lambda: lottery.plot(),
        "lth.plot": lambda: lth.plot(lottery),
        "lth.strong": lambda: lth.strong.embed(plain),
        "lth.export": lambda: lth.export(plain, "deploy", data=data),
        "digits": lambda: datasets.load("digits")}.items():
    try:
        from lth_keras.experiments.training import datasets
        call()
    except lth.LotteryError as error:
        print(what, "|", error)
"""


def run(program, folder, *arguments):
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True,
                          text=True, check=False, cwd=folder,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})


def required():
    """Extra -> the packages that setup.cfg requires for it; "" has those of every installation."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = {"": parser["options"]["install_requires"], **parser["options.extras_require"]}
    return {extra: re.findall(r"^([\w-]+)", text, re.MULTILINE) for extra, text in lines.items()}


def test_setup_cfg_has_what_the_errors_promise():
    for extra, packages in extras.EXTRAS.items():
        assert set(packages.values()) <= set(required()[extra])
        assert not set(packages.values()) & set(required()[""])


def test_whoever_tests_has_all_extras():
    tested, = re.findall(r"lth_keras\[(.*)\]", (ROOT / "setup.cfg").read_text())
    assert {*tested.split(",")} == {*required()} - {"", "test"}


def test_an_error_names_the_extra_and_the_package():
    rule = "The verdict needs the package scikit-learn, which is not installed."
    with (pytest.raises(LotteryError, match=re.escape(rule) + r".* \"lth_keras\[experiments\]\"$"),
          extras.needed_for("The verdict")):
        raise ModuleNotFoundError("No module named 'sklearn.utils'", name="sklearn.utils")


@pytest.mark.parametrize("error", [
    ModuleNotFoundError("No module named 'mine'", name="mine"), KeyError("sklearn")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as raised, extras.needed_for("The verdict"):
        raise error
    assert raised.value is error


@pytest.mark.thorough
def test_a_fit_needs_no_extra_and_what_does_says_so(tmp_path):
    done = run(HIDDEN + FIT, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    said = dict(line.split(" | ") for line in done.stdout.splitlines() if " | " in line)
    assert {what: re.findall(r"lth_keras\[(\w+)\]", text) for what, text in said.items()} == {
        what: ["deploy" if what == "lth.export" else "experiments"]
        for what in ("lth.run", "lottery.report", "bird.plot", "lottery.plot", "lth.plot",
                     "lth.strong", "lth.export", "digits")}
    assert said["digits"].startswith("The data set digits needs the package scikit-learn,")


@pytest.mark.parametrize("command", ["run digits", "report somewhere"])
def test_a_command_names_the_extra(command, tmp_path):
    done = run(HIDDEN + "from lth_keras.cli.main import main\nmain()", tmp_path, *command.split())
    assert done.returncode == 2
    assert 'Run: python -m pip install "lth_keras[experiments]"' in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_help_needs_no_extra(tmp_path):
    done = run(HIDDEN + "from lth_keras.cli.main import main\nmain()", tmp_path, "--help")
    assert done.returncode == 0 and "lth run digits" in done.stdout
