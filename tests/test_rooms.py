import ast
import functools
import importlib
import inspect
import pathlib
import subprocess
import sys

import pytest

import lth_keras
from lth_keras import errors

GROUPS = (
    ("errors", "messages", "quiet", "masks", "criteria", "fractions", "prune", "structures",
     "structured", "randomness", "files", "provenance", "tensorfile", "ticketfile", "shapes",
     "statefile", "values", "controls", "branches", "rules", "config", "background", "owners",
     "locks", "workdir", "record", "layout", "store", "repair", "invariants", "barrier",
     "channels"),
    ("schedule", "weights", "prunable", "zero", "view", "wrapper", "tracking", "replace",
     "wrapped", "saving", "wrap", "rewind", "rounds", "ticket", "plan", "search", "order", "draws",
     "roundcallbacks", "identity", "resume", "course", "callback", "take", "operations", "graph",
     "surgery", "compaction"),
    ("presets", "agenda", "experiment", "data", "networks", "rates", "optimizers", "models",
     "augmentation", "program", "feed", "evaluation", "train", "lab", "work", "parcels",
     "workers", "clusters"),
    ("deployment", "sharing", "conversion", "formats", "trial", "runtimes", "sizes", "checks",
     "card", "shipping", "sources", "workshop"),
    ("stats", "verdicts", "runs", "styles", "plots", "panels", "figures", "tables", "page",
     "events", "report", "progress", "listing", "drawings", "charts", "analysis", "survivors",
     "movement", "connections", "overlaps", "instability", "tradeoff"),
    ("flags", "analyse", "deploy", "cli", "__main__"),
)
OUTSIDE = ("__init__", "_version")
ORDER = tuple(module for group in GROUPS for module in group)
PATHS = {path.stem: path for path in sorted(pathlib.Path(lth_keras.__file__).parent.glob("*.py"))}
TENSORFLOW = {"tensorflow", "tf_keras", "keras", "tensorflow_model_optimization",
              "tensorflow_datasets"}
WITHOUT_TENSORFLOW = (*GROUPS[0], "presets", "agenda", "experiment", "deployment", "card",
                      *GROUPS[4])
MORE = {"store": {"pandas"}, "layout": {"pandas"}, "workdir": {"pandas"}, "locks": {"filelock"}}
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def imports(module):
    """The modules of the package and the outside packages that a module imports, anywhere."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(PATHS[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports by a relative name"
            names = [f"lth_keras.{alias.name}" for alias in node.names] \
                if node.module == "lth_keras" else [node.module]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == "lth_keras":
                found = rest.partition(".")[0]
                inside.add(found if found in PATHS else "__init__")
            else:
                outside.add(top)
    return inside - {"_version"}, outside


def reached(module):
    """A module and all that it imports, directly or not."""
    found, waiting = set(), [module]
    while waiting:
        now = waiting.pop()
        if now not in found:
            found.add(now)
            waiting += imports(now)[0]
    return found


def test_every_module_has_its_place():
    assert sorted((*ORDER, *OUTSIDE)) == sorted(PATHS)


def test_the_package_has_no_packages_within():
    folder = pathlib.Path(lth_keras.__file__).parent
    assert sorted(folder.rglob("*.py")) == sorted(PATHS.values())


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_what_comes_before_it(module):
    assert imports(module)[0] <= set(ORDER[:ORDER.index(module)])


@pytest.mark.parametrize("module", WITHOUT_TENSORFLOW)
def test_groups_1_and_5_know_no_tensorflow(module):
    for part in reached(module):
        assert not imports(part)[1] & TENSORFLOW, part


def test_group_1_is_numpy_in_and_numpy_out():
    for module in GROUPS[0]:
        outside = imports(module)[1] - set(sys.stdlib_module_names)
        assert outside <= {"numpy", "safetensors"} | MORE.get(module, set())


def test_the_command_starts_without_tensorflow():
    program = ("import sys; sys.argv = ['lth']; import lth_keras.cli; "
               "sys.exit('tensorflow' in sys.modules)")
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", lth_keras.__all__)
def test_every_public_name_is_there_and_described(name):
    value = getattr(lth_keras, name)
    assert inspect.cleandoc(value.__doc__)
    assert not value.__doc__.startswith(f"{name}(")


@pytest.mark.parametrize("module", PATHS)
def test_every_module_and_all_that_is_public_in_it_is_described(module):
    tree = ast.parse(PATHS[module].read_text())
    assert module == "_version" or ast.get_docstring(tree)
    missing = []
    for node in _public(tree):
        if not ast.get_docstring(node):
            missing.append(node.name)
        if isinstance(node, ast.ClassDef):
            missing += [f"{node.name}.{part.name}" for part in _public(node)
                        if not ast.get_docstring(part) and not _inherits(module, node, part)]
    assert not missing


def _public(node):
    return [part for part in node.body
            if isinstance(part, DEFINITIONS) and not part.name.startswith("_")]


def _inherits(module, owner, part):
    """Whether a method is described where it was first declared, as Keras' hooks are."""
    described = getattr(importlib.import_module(f"lth_keras.{module}"), owner.name)
    return bool(inspect.getdoc(getattr(described, part.name)))


@pytest.mark.parametrize("name", ["TicketError", "WorkdirError", "DivergedError",
                                  "InvariantError"])
def test_every_error_can_be_caught_as_the_packages_and_as_a_value_error(name):
    kind = getattr(errors, name)
    assert issubclass(kind, errors.LotteryError) and issubclass(kind, ValueError)
    assert getattr(lth_keras, name) is kind


def test_every_error_is_public():
    kinds = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert kinds <= set(lth_keras.__all__)
