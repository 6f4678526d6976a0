"""Which package may import which, and that what is public is described."""

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

# A package imports from those before it and from itself; the modules at the top from each other.
ORDER = ("", "core", "files", "keras2.masking", "keras2", "keras2.fit", "experiments.config",
         "experiments.results", "experiments.training", "experiments", "deployment.compaction",
         "deployment", "reports.plots", "reports.analyses", "reports", "cli")
# What the order alone would allow.  Each holds for all that a package reaches, however far.
NEVER = {
    "core": {"files"},
    "files": {"keras2", "experiments"},
    "keras2": {"keras3", "experiments"},
    "keras3": {"keras2"},
    "experiments.config": {"keras2", "keras3"},
    "experiments.results": {"keras2", "keras3"},
    "reports": {"keras2", "keras3", "experiments.training"},
    "deployment": {"reports"},
}
WITHOUT_TENSORFLOW = ("core", "files", "experiments.config", "experiments.results", "reports")
TENSORFLOW = {"tensorflow", "tf_keras", "keras", "tensorflow_model_optimization",
              "tensorflow_datasets"}
MOST_FILES = 12
ROOT = pathlib.Path(lth_keras.__file__).parent
FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip(
    "."): path for path in sorted(ROOT.rglob("*.py"))}
PACKAGES = {name for name, path in FILES.items() if path.stem == "__init__"}
MODULES = sorted(FILES.keys() - PACKAGES)
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def package_of(module):
    return module if module in PACKAGES else module.rpartition(".")[0]


@functools.cache
def imports(module):
    """The modules of the package and the outside packages that a module imports, anywhere."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports by a relative name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top != "lth_keras":
                outside.add(top)
                continue
            while rest not in FILES:  # A name in a module.
                rest = rest.rpartition(".")[0]
            inside.add(rest)
    return inside, outside


def reached(module):
    """A module and all that it imports, directly or not."""
    found, waiting = set(), [module]
    while waiting:
        now = waiting.pop()
        if now not in found:
            found.add(now)
            waiting += imports(now)[0] - {""}
    return found


def within(module, package):
    return module == package or module.startswith(f"{package}.")


def test_every_package_has_its_place():
    assert set(ORDER) == PACKAGES


@pytest.mark.parametrize("package", ORDER)
def test_a_folder_is_small_enough_to_be_read(package):
    files = [name for name in FILES if package_of(name) == package]
    assert len(files) <= MOST_FILES, files


@pytest.mark.parametrize("package", ORDER[1:])
def test_a_package_says_what_is_in_it_and_imports_nothing(package):
    tree = ast.parse(FILES[package].read_text())
    text = ast.get_docstring(tree)
    assert len(tree.body) == 1
    missing = [name for name in MODULES if package_of(name) == package
               and name.rpartition(".")[2] not in text]
    assert not missing, "its docstring names every module, in the order to read them"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_packages_before_its_own(module):
    if module == "__main__":
        return
    allowed = ORDER[:ORDER.index(package_of(module)) + 1]
    assert {other for other in imports(module)[0] if package_of(other) not in allowed} == set()


@pytest.mark.parametrize("package", NEVER)
def test_what_a_package_never_reaches(package):
    for module in MODULES:
        if within(module, package):
            for other in reached(module):
                assert not [never for never in NEVER[package] if within(other, never)], \
                    f"{module} reaches {other}"


def test_no_module_imports_itself_by_way_of_others():
    for module in MODULES:
        for other in imports(module)[0] - {""}:
            assert module not in reached(other), f"{module} and {other}"


@pytest.mark.parametrize("package", WITHOUT_TENSORFLOW)
def test_what_knows_no_tensorflow(package):
    for module in MODULES:
        if within(module, package):
            for part in reached(module):
                assert not imports(part)[1] & TENSORFLOW, part


def test_core_is_numpy_in_and_numpy_out():
    for module in MODULES:
        if within(module, "core"):
            assert imports(module)[1] - set(sys.stdlib_module_names) <= {"numpy"}


@pytest.mark.parametrize("imports", ["lth_keras.cli.main", "lth_keras.experiments.pools",
                                     "lth_keras.deployment.measuring_process"])
def test_what_starts_without_tensorflow(imports):
    program = f"import sys; import {imports}; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_public_name_comes_by_a_star_and_keras_of_tensorflow_is_the_one_it_works_with():
    program = ("from lth_keras import *\nimport lth_keras, tensorflow, tf_keras\n"
               "missing = set(lth_keras.__all__) - set(dir())\n"
               "assert not missing, missing\n"
               "assert prune_low_magnitude is lth_keras.prune_low_magnitude\n"
               "assert tensorflow.keras.Model is tf_keras.Model\n")
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("then", ["import tensorflow as tf", "import tensorflow as tf; lth_keras"
                                  ".Search", "lth_keras.Search; import tensorflow as tf"])
def test_keras_of_tensorflow_is_keras_2_whatever_is_used_first(then):
    program = (f"import lth_keras; {then}; import sys; "
               "sys.exit(not tf.keras.Model.__module__.startswith('tf_keras'))")
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", lth_keras.__all__)
def test_every_public_name_is_there_and_described(name):
    value = getattr(lth_keras, name)
    assert inspect.cleandoc(value.__doc__)
    assert not value.__doc__.startswith(f"{name}(")


@pytest.mark.parametrize("module", MODULES)
def test_every_module_and_all_that_is_public_in_it_is_described(module):
    tree = ast.parse(FILES[module].read_text())
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
