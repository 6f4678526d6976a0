"""A wrapped model of a class of the user's own, as Keras saves it and loads it.

Keras saves such a model by its class and the arguments that it was made with, and makes a
model without wrappers of them.  So a wrapped model gets a class that stands for the user's:
a subclass of it, saved as what makes the model by the user's class and wraps it.
"""

import functools
import types
from typing import Any

import tf_keras as keras
from tf_keras.src.engine.functional import has_functional_like_constructor
from tf_keras.src.saving.serialization_lib import in_tf_saved_model_scope

from lth_keras.core.structures.structure import Structure
from lth_keras.core.structures.words import parse
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import masked, wrappers
from lth_keras.keras2.masking.wrap_weights import wrap_names

_NAME = "lth_keras>WrappedModel"
_MODEL, _WEIGHTS, _STRUCTURES = "model", "weights", "structures"  # The keys of the config.


class WrappedModel:
    """What the classes that stand for the user's have in common: how they are loaded.

    The config has the model as Keras would save it without wrappers, and the names of the
    weights that are pruned; masks lie with the other variables in the file.
    """

    _own_class: Any = None  # The user's.

    def __init_subclass__(cls) -> None:
        """Keeps the user's from hearing of a class that is not theirs."""

    def get_build_config(self) -> None:
        """Nothing: how the model is built is in its config, since it is wrapped after that."""

    @classmethod
    def from_config(cls, config: Any, custom_objects: Any = None) -> Any:
        """Makes the model by the user's class, builds it and wraps it.

        Raises:
          LotteryError: if the config is not that of a wrapped model, does not say how to make
            it, or prunes other weights than the model has.
        """
        if cls._own_class is not None and set(config) - {_STRUCTURES} != {_MODEL, _WEIGHTS}:
            return cls._own_class.from_config(config)
        described, names, structures = _checked(config)
        with keras.saving.custom_object_scope(custom_objects or {}):
            model = keras.saving.deserialize_keras_object(described)
        if not isinstance(model, keras.Model):
            raise LotteryError(f"A wrapped model must be a model. Received: {model!r}.")
        if not model.built and described.get("build_config"):  # In a SavedModel Keras does not.
            model.build_from_config(described["build_config"])
        return _wrapped(model, names, structures) if names else model


# Keras seeks a class by its registered name: here, and, where the package is not imported yet,
# among the names of the module that the class says it is of.
keras.saving.get_custom_objects()[_NAME] = WrappedModel


def _checked(config: Any) -> tuple[dict[str, Any], list[str], dict[str, Structure]]:
    described, names = (config.get(_MODEL), config.get(_WEIGHTS)) \
        if isinstance(config, dict) else (None, None)
    if not (isinstance(described, dict) and isinstance(described.get("class_name"), str)
            and isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise LotteryError("A wrapped model's config must have the model without wrappers and the "
                           f"names of its pruned weights. Received: {str(config)[:200]}.")
    if not isinstance(described.get("config"), dict):
        kind = described["class_name"]
        raise LotteryError(
            f"{kind} must say how it is made, to be loaded from a file. Received: no config, since "
            f"it was made with arguments that Keras cannot note. Give it get_config and from_config"
            "; or build the model by its code, wrap it, and call its load_weights on this file.")
    if in_tf_saved_model_scope():  # Keras seeks by this name there.
        described = {**described, "class_name": described.get("registered_name")}
    structures = config.get(_STRUCTURES, {})
    if not isinstance(structures, dict):
        raise LotteryError("A wrapped model's structures must be words by the names of weights. "
                           f"Received: {structures!r:.100}.")
    return described, names, {name: parse(word) for name, word in structures.items()}


def _wrapped(model: Any, names: list[str], structures: dict[str, Structure]) -> Any:
    model = saveable(wrap_names(model, names, structures))
    found = set(masked(model))
    if found != set(names):
        raise LotteryError(
            f"{type(model).__name__} must have the weights that were pruned when it was saved. "
            f"Received: pruned in the file alone {sorted(set(names) - found)}, in the class alone "
            f"{sorted(found - set(names))}. Load the file with the code that wrote it.")
    return model


def saveable(model: Any) -> Any:
    """Gives the models in a wrapped model classes under which Keras loads them wrapped.

    Args:
      model: a wrapped model.

    Returns:
      It: still an instance of its class, whose name it keeps.
    """
    for part in _models(model):
        if not isinstance(part, WrappedModel) and wrappers(part) and _needs_class(type(part)):
            _set_class(part, _class_for(part.__class__))
    return model


def plain(model: Any) -> Any:
    """Gives the models in a model that was stripped their own classes back; returns it."""
    for part in _models(model):
        if isinstance(part, WrappedModel):
            _set_class(part, part._own_class)
    return model


def _models(model: Any) -> list[Any]:
    return [part for part in model._flatten_layers() if isinstance(part, keras.Model)]


def _set_class(model: Any, kind: type) -> None:
    object.__setattr__(model, "__class__", kind)  # Keras' own looks for layers in the value.


def _needs_class(kind: Any) -> bool:
    if kind.__module__.startswith("tf_keras"):
        return False
    if issubclass(kind, keras.Sequential):
        return kind.get_config is not keras.Sequential.get_config
    # Its config has its layers, wrappers and all, unless the user's says something else.
    return not (has_functional_like_constructor(kind) and _is_default(kind))


@functools.cache
def _class_for(kind: Any) -> type:
    def get_config(self: Any) -> dict[str, Any]:
        return _config(self, kind)
    # Keras' own get_config asks of the one that it finds whether it is Keras' own.
    vars(get_config)["_is_default"] = _is_default(kind)
    content = {"get_config": get_config, "_own_class": kind, "__doc__": kind.__doc__,
               "__module__": "lth_keras"}
    made = types.new_class(kind.__name__, (WrappedModel, kind), exec_body=lambda names:
                           names.update(content))
    keras.saving.register_keras_serializable(*_NAME.split(">"))(made)
    keras.saving.get_custom_objects()[_NAME] = WrappedModel
    return made


def _config(model: Any, kind: Any) -> dict[str, Any]:
    own = kind.get_config(model)
    if _is_default(kind) and not getattr(model, "_auto_get_config", False):
        own = None  # Keras has warned already; it would make a model without the arguments.
    # Keras finds no class in the module of a program that is run: it must be registered.
    module = None if kind.__module__ == "__main__" else kind.__module__
    return {_MODEL: {"module": module, "class_name": kind.__name__, "config": own,
                     "registered_name": keras.saving.get_registered_name(kind),
                     "build_config": kind.get_build_config(model)},
            _WEIGHTS: list(masked(model)), **_structures(model)}


def _structures(model: Any) -> dict[str, Any]:
    words = {name: str(item.structure) for name, item in masked(model).items()
             if not item.structure.is_none}
    return {_STRUCTURES: words} if words else {}


def _is_default(kind: Any) -> bool:
    return getattr(kind.get_config, "_is_default", False)
