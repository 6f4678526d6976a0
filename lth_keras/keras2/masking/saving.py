"""Lets Keras save and load wrapped models of the user's own classes.

Keras saves such a model as its class and constructor arguments, from which it would make a model
without wrappers.  So a wrapped model gets a generated subclass of the user's class.  The config of
the subclass describes the model without wrappers and names its pruned weights; loading makes the
model by the user's class and wraps it again.
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
    """Base class of the generated subclasses; loads wrapped models.

    The config holds the model as Keras would save it without wrappers, and the names of the pruned
    weights.  Masks are stored in the file with the other variables.
    """

    _own_class: Any = None  # The user's class.

    def __init_subclass__(cls) -> None:
        """Does nothing: the user's __init_subclass__ must not be called for generated classes."""

    def get_build_config(self) -> None:
        """Returns None: the model is built by its config, before it is wrapped."""

    @classmethod
    def from_config(cls, config: Any, custom_objects: Any = None) -> Any:
        """Makes the model by the user's class, builds it and wraps it.

        Raises:
          LotteryError: if the config is not that of a wrapped model, does not describe how to make
            the model, or names weights that the model does not have.
        """
        # The user's own from_config may call cls(...) with its own config.
        if cls._own_class is not None and set(config) - {_STRUCTURES} != {_MODEL, _WEIGHTS}:
            return cls._own_class.from_config(config)
        described, names, structures = _checked(config)
        with keras.saving.custom_object_scope(custom_objects or {}):
            model = keras.saving.deserialize_keras_object(described)
        if not isinstance(model, keras.Model):
            raise LotteryError(f"A wrapped model must be a model. Received: {model!r}.")
        # Keras builds a model that it loads from a .keras file, but not one from a SavedModel.
        if not model.built and described.get("build_config"):
            model.build_from_config(described["build_config"])
        return _wrapped(model, names, structures) if names else model


# Keras looks a class up by its registered name here. If the package is not imported yet, it
# imports the module that the file names, lth_keras, and looks there.
keras.saving.get_custom_objects()[_NAME] = WrappedModel


def _checked(config: Any) -> tuple[dict[str, Any], list[str], dict[str, Structure]]:
    # The config comes from a file: nothing in it is used before its type is checked.
    described, names = (config.get(_MODEL), config.get(_WEIGHTS)) \
        if isinstance(config, dict) else (None, None)
    if not (isinstance(described, dict) and isinstance(described.get("class_name"), str)
            and isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise LotteryError("A wrapped model's config must have the model without wrappers and the "
                           f"names of its pruned weights. Received: {str(config)[:200]}.")
    if not isinstance(described.get("config"), dict):
        kind = described["class_name"]
        raise LotteryError(
            f"{kind} must have a config to be loaded from a file. Received: no config, since it "
            "was made with arguments that Keras cannot store. Give it get_config and from_config; "
            "or build the model by its code, wrap it, and call its load_weights with this file.")
    if in_tf_saved_model_scope():  # For SavedModels, Keras looks classes up by this name.
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
            f"Received: pruned only in the file {sorted(set(names) - found)}, only in the class "
            f"{sorted(found - set(names))}. Load the file with the code that wrote it.")
    return model


def saveable(model: Any) -> Any:
    """Changes the class of a wrapped model, and of models in it, so that Keras can load it wrapped.

    Args:
      model: a wrapped model.

    Returns:
      The same model. It is still an instance of the user's class, and its class has the same name.
    """
    for part in _models(model):
        if not isinstance(part, WrappedModel) and wrappers(part) and _needs_class(type(part)):
            _set_class(part, _class_for(part.__class__))
    return model


def plain(model: Any) -> Any:
    """Restores the user's classes of a stripped model and of models in it; returns the model."""
    for part in _models(model):
        if isinstance(part, WrappedModel):
            _set_class(part, part._own_class)
    return model


def _models(model: Any) -> list[Any]:
    return [part for part in model._flatten_layers() if isinstance(part, keras.Model)]


def _set_class(model: Any, kind: type) -> None:
    # Keras' own __setattr__ would look for layers to track in the class.
    object.__setattr__(model, "__class__", kind)


def _needs_class(kind: Any) -> bool:
    # Keras' own classes store their layers with the wrappers, and need nothing.
    if kind.__module__.startswith("tf_keras"):
        return False
    if issubclass(kind, keras.Sequential):
        return kind.get_config is not keras.Sequential.get_config
    # The default config of a functional model stores its layers with their wrappers.
    return not (has_functional_like_constructor(kind) and _is_default(kind))


# Cached: two wrapped models of one class must have the same class too.
@functools.cache
def _class_for(kind: Any) -> type:
    def get_config(self: Any) -> dict[str, Any]:
        return _config(self, kind)
    # Keras' default get_config checks by this attribute whether a class has one of its own.
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
        # The arguments are unknown, and Keras has already warned: {} would make a wrong model.
        own = None
    # Keras cannot import a class from "__main__": it must be registered.
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
