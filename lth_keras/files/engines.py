"""Engines: which module of the package works with a model, found by the model's class.

An engine is a module with functions such as `apply_ticket(ticket, model)`.  It is named here and
imported when a model of its kind comes, so that nothing below the engines imports them, and a
ticket is read without TensorFlow.
"""

import importlib
from typing import Any

from lth_keras.errors import TicketError

# Top-level package of a model's class, or of a class that it derives from -> the engine's module.
ENGINES = {"tf_keras": "lth_keras.keras2.apply_ticket"}


def register(package: str, module: str) -> None:
    """Adds an engine.

    Args:
      package: the top-level package that its models' classes come from, such as "tf_keras".
      module: the name of the module that has the engine's functions.
    """
    ENGINES[package] = module


def engine_of(model: Any) -> Any:
    """Imports and returns the module that works with a model.

    Raises:
      TicketError: if the model's class derives from none that an engine is registered for.

    Example:
      >>> import tf_keras as keras
      >>> engine_of(keras.Sequential()).__name__
      'lth_keras.keras2.apply_ticket'
    """
    for kind in type(model).__mro__:
        module = ENGINES.get(kind.__module__.partition(".")[0])
        if module is not None:
            return importlib.import_module(module)
    raise TicketError(f"A model must be one of {', '.join(ENGINES)}. Received: an object of "
                      f"{type(model).__module__}.{type(model).__qualname__}. Build the model "
                      "with one of these, or use the arrays in ticket.weights and ticket.masks.")
