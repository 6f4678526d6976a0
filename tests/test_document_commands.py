"""The commands of the documents, run one after another as written, on fewer steps.

Nothing but the size of a run is changed: what a command names, such as the folder of a run, must
have been made by one above it in the same document.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from lth_keras.experiments.config import presets
from lth_keras.experiments.training import prepared_data

ROOT = pathlib.Path(__file__).parents[1]
SHARE, EVERY = 0.02, 10  # Of the steps that are written; steps between validations.
SHAPES = {"mnist": (28, 28), "cifar10": (32, 32, 3), "mnist_8x8": (8, 8)}


def shown(name):
    """The `lth` commands in the fenced blocks of a document, in order."""
    fenced = re.findall(r"^```(.*?)\n(.*?)^```", (ROOT / name).read_text(),
                        re.DOTALL | re.MULTILINE)
    return [line.partition("#")[0].strip() for kind, block in fenced if not kind
            for line in block.splitlines() if line.startswith("lth ")]


def fewer(command, data):
    """The words of a command with fewer steps and replicates, and generated images."""
    words = shlex.split(command)
    if words[1] != "run":
        return [*words, *(["--jobs", "1"] if words[1:3] == ["analyse", "barrier"] else [])]
    for place, word in enumerate(words[:-1]):
        after = words[place + 1]
        if word == "--steps":
            words[place + 1] = str(round(int(after) * SHARE))
        elif word == "--replicates":
            words[place + 1] = str(min(2, int(after)))
        elif word == "--set" and re.match("(rewind_step|mask_update_every)=", after):
            key, _, steps = after.partition("=")
            words[place + 1] = f"{key}={max(1, round(int(steps) * SHARE))}"
    words += ["--set", f"validation_every={EVERY}"]  # It divides each of these steps.
    if "--scale" in words:
        words[words.index("--scale") + 1] = str(SHARE)
    else:
        words += ["--scale", str(SHARE)]
    if "--replicates" not in words and "--first_replicate" not in words:
        words += ["--replicates", "2"]
    preset = presets.get(words[2])
    chosen = [word.partition("=")[2] for word in words if word.startswith("dataset=")]
    if (chosen or [preset.dataset])[0] != "digits":
        words += ["--data_dir", str(data)]
    return [*words, "--jobs", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a file of random images for each data set that has to be downloaded."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        y = np.arange(7000, dtype=np.int32) % 10
        x = rng.integers(0, 256, (7000, *shape), dtype=np.uint8)
        prepared_data.write(folder / f"{name}.npz", name, {
            "x_train": x, "y_train": y, "x_test": x[:200], "y_test": y[:200]})
    return folder


def of_documents():
    quick = ("README.md", "docs/quickstart.md")
    for path in sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")]):
        name = str(path.relative_to(ROOT))
        if shown(name):
            yield pytest.param(name, marks=pytest.mark.thorough if name in quick
                               else pytest.mark.long)


@pytest.mark.parametrize("name", of_documents())
def test_every_command_runs_after_those_above_it(name, data, tmp_path):
    if name == "docs/guide.md":  # Its workdir is a program's.
        pytest.skip("begins with a program; test_documents.py runs it")
    for command in shown(name):
        done = subprocess.run(
            [sys.executable, "-m", "lth_keras", *fewer(command, data)[1:]], cwd=tmp_path,
            capture_output=True, text=True, check=False, env={**os.environ,
                                                              "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_what_is_changed_is_the_size_alone(tmp_path):
    assert fewer("lth run lenet_300_100 --steps 6000 --branches reinit:3@3/5/7 --workdir runs/l "
                 "--set rewind_step=500", tmp_path)[1:] == [
        "run", "lenet_300_100", "--steps", "120", "--branches", "reinit:3@3/5/7",
        "--workdir", "runs/l", "--set", "rewind_step=10", "--set", "validation_every=10", "--scale",
        "0.02", "--replicates", "2", "--data_dir", str(tmp_path), "--jobs", "1"]
    assert fewer("lth report runs/lenet", tmp_path) == ["lth", "report", "runs/lenet"]
    assert len(shown("docs/experiments.md")) > 20 and len(shown("docs/deploying.md")) > 3
