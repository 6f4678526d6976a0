"""All controls of this package, by name; `control.register` adds more."""

from lth_keras.controls import changed_weights, other_masks, sparse_trainings
from lth_keras.controls.control import CONTROLS

# They register their controls; naming them here keeps them from looking unused.
MODULES = changed_weights, other_masks, sparse_trainings

__all__ = ["CONTROLS", "MODULES"]
