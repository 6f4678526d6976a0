"""Which package may import which, and that what is public is described."""

import ast
import importlib
import inspect
import os
import pathlib
import subprocess
import sys

import pytest
from rooms import (
    House,
    MOST_FILES,
    NEVER,
    ORDER,
    PUBLIC_PACKAGES,
    TENSORFLOW,
    within,
    WITHOUT_TENSORFLOW,
)

import lth_keras
from lth_keras import errors

HOUSE = House(pathlib.Path(lth_keras.__file__).parent)
MODULES = HOUSE.modules
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def test_every_package_has_its_place():
    assert set(ORDER) == HOUSE.packages


@pytest.mark.parametrize("package", ORDER)
def test_a_folder_is_small_enough_to_be_read(package):
    files = [name for name in HOUSE.files if HOUSE.package_of(name) == package]
    assert len(files) <= MOST_FILES, files


@pytest.mark.parametrize("package", ORDER[1:])
def test_a_package_says_what_is_in_it_and_imports_nothing(package):
    tree = HOUSE.tree(package)
    text = ast.get_docstring(tree)
    assert len(tree.body) == 1 or package in PUBLIC_PACKAGES
    missing = [name for name in MODULES if HOUSE.package_of(name) == package
               and name.rpartition(".")[2] not in text]
    assert not missing, "its docstring names every module, in the order to read them"


def test_a_module_imports_only_from_packages_before_its_own():
    assert not HOUSE.upward()


@pytest.mark.parametrize("package", NEVER)
def test_what_a_package_never_reaches(package):
    assert not HOUSE.forbidden(package)


def test_no_module_imports_itself_by_way_of_others():
    assert not HOUSE.cycles()


@pytest.mark.parametrize("package", WITHOUT_TENSORFLOW)
def test_what_knows_no_tensorflow(package):
    for module in MODULES:
        if within(module, package):
            for part in HOUSE.reached(module):
                assert not HOUSE.imports(part)[1] & TENSORFLOW, part


@pytest.mark.parametrize(("source", "kind"), [
    ({"core/masks": "from lth_keras.cli import main"}, "upward"),
    ({"core/masks": "from lth_keras.core import criteria",
      "core/criteria": "def late():\n    import lth_keras.core.masks"}, "cycles"),
    ({"files/ticket": "from lth_keras.core import masks",
      "core/masks": "import lth_keras.keras2.search"}, "forbidden"),
    ({"keras2/search": "MODULE = 'lth_keras.cli.main'"}, "upward"),
    ({"__init__": "_HOMES = {'start': 'cli.main'}",
      "keras2/search": "import lth_keras as lth\ndef late():\n    lth.start()"}, "upward"),
    ({"__init__": "_HOMES = {'start': 'cli.main'}",
      "keras2/search": "from lth_keras import start"}, "upward"),
    ({"files/ticket": "ENGINE = 'lth_keras.keras2.search'"}, "forbidden")])
def test_what_must_not_be_is_found(tmp_path, source, kind):
    root = tmp_path / "lth_keras"
    for name in ("", "core", "files", "cli", "keras2"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "__init__.py").touch()
    for name in ("__init__", "core/masks", "core/criteria", "cli/main", "keras2/search",
                 "files/ticket"):
        (root / f"{name}.py").write_text(source.get(name, ""))
    house = House(root)
    found = {"upward": house.upward(), "cycles": house.cycles(),
             "forbidden": house.forbidden("files")}
    assert found[kind]


def test_a_public_package_imports_what_is_asked_of_it():
    program = "import sys, lth_keras as lth\n" + "".join(
        f"names = dir(lth.{name})\n"
        f"assert not [each for each in sys.modules if each.startswith('lth_keras.{name}.')]\n"
        f"assert names and all(getattr(lth.{name}, each).__doc__ for each in names)\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
        for name in PUBLIC_PACKAGES)
    subprocess.run([sys.executable, "-c", program], check=True)
    for name in PUBLIC_PACKAGES:
        assert name in lth_keras.__all__
        with pytest.raises(AttributeError, match=f"lth.{name} has no"):
            getattr(getattr(lth_keras, name), "missing")  # noqa: B009


def test_core_is_numpy_in_and_numpy_out():
    for module in MODULES:
        if within(module, "core"):
            assert HOUSE.imports(module)[1] - set(sys.stdlib_module_names) <= {"numpy"}


def test_what_starts_without_tensorflow():
    program = "import importlib, sys\n" + "".join(
        f"importlib.import_module('lth_keras.{name}')\n"
        f"assert 'tensorflow' not in sys.modules, '{name}'\n"
        for name in ("deployment.measuring_process", "experiments.pools", "cli.main"))
    subprocess.run([sys.executable, "-c", program], check=True)


# Each entry point, by what a script does with it.
STAR = ("missing = set(lth_keras.__all__) - set(dir())\nassert not missing, missing\n"
        "assert prune_low_magnitude is lth_keras.prune_low_magnitude\n")
SEARCHED = ("model = prune_low_magnitude(tf_keras.Sequential([tf_keras.Input((4,)),"
            " tf_keras.layers.Dense(2)]))\nmodel.compile('adam', 'mse')\n"
            "Search(model).prune_and_rewind()\nstrip_pruning(model)\n")
USED = "import tensorflow as tf\ntf.keras.Model\n"


@pytest.mark.thorough
@pytest.mark.parametrize(("first", "done", "legacy"), [
    ("", STAR, None), ("", SEARCHED, None), (USED, SEARCHED, None), ("", SEARCHED, "1")])
def test_keras_of_tensorflow_stays_what_the_program_made_it(first, done, legacy):
    program = (f"{first}import lth_keras\nfrom lth_keras import *\nimport os, tf_keras\n"
               f"{done}import tensorflow as tf\n"
               f"print(tf.keras.Model.__module__, os.environ.get('TF_USE_LEGACY_KERAS'))\n")
    environment = {name: value for name, value in os.environ.items()
                   if name != "TF_USE_LEGACY_KERAS"}
    if legacy:
        environment["TF_USE_LEGACY_KERAS"] = legacy
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True,
                          text=True, env=environment)
    module, said = done.stdout.split()
    assert (module.partition(".")[0], said) == (
        ("tf_keras", "1") if legacy else ("keras", "None"))


@pytest.mark.parametrize("name", lth_keras.__all__)
def test_every_public_name_is_there_and_described(name):
    value = getattr(lth_keras, name)
    assert inspect.cleandoc(value.__doc__)
    assert not value.__doc__.startswith(f"{name}(")


@pytest.mark.parametrize("module", MODULES)
def test_every_module_and_all_that_is_public_in_it_is_described(module):
    tree = HOUSE.tree(module)
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
