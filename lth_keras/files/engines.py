"""Engines: the modules that work with models; finds one by the model's class.

An engine is a module with functions such as `apply_ticket(ticket, model)`.  `lth_keras/__init__.py`
registers it by name, and it is imported when a model of its kind is given.  So this package does
not import the engines above it, and a ticket is read without TensorFlow.
"""

import importlib
from typing import Any

from lth_keras.errors import TicketError

# Top-level package of a model's class, or of a class that it derives from -> the engine's module.
ENGINES: dict[str, str] = {}


def register(package: str, module: str) -> None:
    """Registers an engine.

    Args:
      package: the top-level package of its models' classes, such as "tf_keras".
      module: the full name of the module that has the engine's functions.
    """
    ENGINES[package] = module


def package_of(model: Any) -> "str | None":
    """Returns the package of a registered engine that a model's class comes from, or None.

    Example:
      >>> import tf_keras as keras
      >>> package_of(keras.Sequential()), package_of([])
      ('tf_keras', None)
    """
    tops = (kind.__module__.partition(".")[0] for kind in type(model).__mro__)
    return next((top for top in tops if top in ENGINES), None)


def engine_of(model: Any) -> Any:
    """Imports and returns the module that works with a model.

    Raises:
      TicketError: if no engine is registered for the model's class or any class it derives from.

    Example:
      >>> import tf_keras as keras
      >>> engine_of(keras.Sequential()).__name__
      'lth_keras.keras2.engine'
    """
    package = package_of(model)
    if package is not None:
        return importlib.import_module(ENGINES[package])
    raise TicketError(f"A model must be one of {', '.join(ENGINES)}. Received: an object of "
                      f"{type(model).__module__}.{type(model).__qualname__}. Build the model "
                      "with one of these, or use the arrays in ticket.weights and ticket.masks.")
