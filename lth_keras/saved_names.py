"""What Keras writes into files by class: known by name before TensorFlow is loaded.

A file that Keras saved names classes of this package: {"module": "lth_keras", "class_name":
"MaskedLayer", "registered_name": "lth_keras>MaskedLayer"}.  Keras looks for the registered name
among the objects registered with it (an .h5 file has no other), and then in the module, which it
imports.  In both places lies a `SavedClass`, which imports the class when a file is loaded that
has it.  So `import lth_keras` is quick, and files load wherever the import stands, or without.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any

# Their __module__ is "lth_keras" for good, so that a file loads wherever their modules lie.
HOMES = {
    "MaskedLayer": "keras2.masking.masked_layer",
    "LotteryTicketSchedule": "keras2.masking.schedule",
    "GatherFeatures": "deployment.models.gather_layer",
    "Rate": "experiments.training_keras2.optimizers",
    "CoupledSGD": "experiments.training_keras2.optimizers",
    "WrappedModel": "keras2.masking.saving",
    "TfKerasSupermask": "keras2.sparse_training.tf_keras_supermask",
    "TfKerasSparseTraining": "keras2.sparse_training.tf_keras_sparse_training",
}
# Version 0.1.0 wrote other names: of one class, and of the modules.
_EARLIER_CLASSES = {"Take": "GatherFeatures"}
_EARLIER_MODULES = ("wrapper", "schedule", "take", "rates", "optimizers", "saving")


class SavedClass:
    """Stands for a class that Keras wrote into a file, and is not imported yet.

    Args:
      name: of the class, one of HOMES.
    """

    def __init__(self, name: str):
        self.__name__ = name

    def from_config(self, config: Any) -> Any:
        """Makes what the class makes of a config; Keras sets the scope of custom objects."""
        home = importlib.import_module(f"lth_keras.{HOMES[self.__name__]}")
        return getattr(home, self.__name__).from_config(config)


def make_known(package: types.ModuleType) -> None:
    """Makes the saved classes known to Keras: at once if tf_keras is loaded, else when it is.

    Args:
      package: lth_keras, where Keras looks for what is not registered.
    """
    for name, saved in _registered().items():
        vars(package)[name] = saved
    for name in _EARLIER_MODULES:
        sys.modules[f"{package.__name__}.{name}"] = package
    if sys.modules.get("tf_keras") is not None:
        _register(importlib.import_module("tf_keras"))  # Which waits, if a thread still loads it.
    else:
        sys.meta_path.insert(0, _AfterImport())


def _registered() -> dict[str, SavedClass]:
    classes = {**{name: name for name in HOMES}, **_EARLIER_CLASSES}
    return {f"lth_keras>{name}": SavedClass(kind) for name, kind in classes.items()}


def _register(keras: Any) -> None:
    known = keras.saving.get_custom_objects()
    for name, saved in _registered().items():
        known.setdefault(name, saved)  # A class that is imported has registered itself.


class _AfterImport(importlib.abc.MetaPathFinder):
    """Registers the saved classes as soon as tf_keras has been imported, by whomever."""

    def find_spec(self, fullname: str, path: "Sequence[str] | None" = None,
                  target: "types.ModuleType | None" = None,
                  ) -> "importlib.machinery.ModuleSpec | None":
        """What the other finders find for tf_keras, with a loader that registers afterwards."""
        if fullname != "tf_keras":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader, self)
        return spec


class _Registering(importlib.abc.Loader):
    """A module's own loader, but that the saved classes are registered after it."""

    def __init__(self, loader: Any, finder: _AfterImport):
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        # The module is to look as if nothing had stood between.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _register(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
