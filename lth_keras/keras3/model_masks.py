"""The masks of a Keras 3 model: in each of its optimizers, also when it is compiled again.

Another model may have the same layers.  What their weights' constraints keep at zero are its masks
to begin with, once it gets some.
"""

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from lth_keras.core import masks as mask_arrays
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.structures.filters import groups_of, masks_of_zeros
from lth_keras.core.structures.structure import Structure
from lth_keras.errors import LotteryError
from lth_keras.keras3 import optimizer_state
from lth_keras.keras3.assigned import assign_weights
from lth_keras.keras3.gradient_masks import leave_out, OptimizerMasks, ZeroConstraint
from lth_keras.keras3.weights import named_weights

_HELD = "_lth_keras_masks"  # The attribute of a model that holds its masks; Keras saves it not.


class ModelMasks:
    """The masks of a model's weights, at first those that its layers have in another model.

    Args:
      model: a built model.
      names: the names of the weights that have masks.
      structure: the structure that they are pruned in, if further searches are to keep it.

    Attributes:
      names: the names of the weights that have masks, in the order of the model.
      structure: the structure's word, or None.

    Example:
      >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="fc")])
      >>> model.compile("sgd", "mse")
      >>> masks = ModelMasks(model, ["fc/kernel"])
      >>> masks.assign({"fc/kernel": np.array([[1], [0]], np.uint8)})
      >>> masks.read()["fc/kernel"].tolist(), ModelMasks.of(model) is masks
      ([[1], [0]], True)
    """

    def __init__(self, model: Any, names: "list[str] | Mapping[str, Any]",
                 structure: "str | None" = None):
        self._model, self.structure = model, structure
        weights = {name: variable for name, variable in named_weights(model).items()
                   if name in names}
        self._weights = weights
        self.names = list(weights)
        self._attached: dict[int, OptimizerMasks] = {}  # By the optimizer's id.
        self._tokens: set[object] = set()  # Of those.
        self._constraints = {name: ZeroConstraint.of(variable) or ZeroConstraint(variable, name)
                             for name, variable in weights.items()}
        self._masks = {name: found.read() for name, found in self._constraints.items()}
        compile_model, fit_model = model.compile, model.fit

        def compile(*arguments: Any, **options: Any) -> None:
            compile_model(*arguments, **options)
            self.attach()

        @functools.wraps(fit_model)
        def fit(*arguments: Any, **options: Any) -> Any:
            self.attach()  # To an optimizer that was assigned to the model, too.
            self._warn_if_moved()
            return fit_model(*arguments, **options)
        # In the instance, past Keras' own tracking: the model keeps its class and its files.
        vars(model).update({_HELD: self, "compile": compile, "fit": fit})
        self.assign(self._masks)
        self.attach()

    @staticmethod
    def of(model: Any) -> "ModelMasks | None":
        """The masks that a model has, or None."""
        found: ModelMasks | None = vars(model).get(_HELD)
        return found

    @property
    def attached(self) -> list[OptimizerMasks]:
        """The masks in each optimizer of the model."""
        return list(self._attached.values())

    @property
    def variables(self) -> frozenset[int]:
        """The ids of all variables that are masks."""
        return frozenset(id(variable) for attached in self._attached.values()
                         for variable in attached.variables.values())

    def attach(self) -> None:
        """Gives the masks to every optimizer of the model that does not have them yet."""
        optimizers = optimizer_state.optimizers(self._model)
        stepping = optimizer_state.stepping(self._model)
        # One that the model no longer has, since it was compiled again, is let go with its slots.
        self._attached = {id(optimizer): self._attached[id(optimizer)] for optimizer in stepping
                          if id(optimizer) in self._attached}
        new = [optimizer for optimizer in stepping if id(optimizer) not in self._attached]
        for optimizer in new:
            attached = self._attached[id(optimizer)] = OptimizerMasks(optimizer, self._weights)
            attached.assign(self._masks)
            self._freshen(optimizer)  # It may have trained the weights when it had no masks.
        self._tokens.clear()
        self._tokens.update(attached.token for attached in self._attached.values())
        if not new:
            return
        masks = [variable for attached in self._attached.values()
                 for variable in attached.variables.values()]
        for optimizer in optimizers:
            if len(optimizer_state.chain(optimizer)) > 1:  # Its variables may be theirs too.
                leave_out(optimizer, masks)
        # A step that was compiled before knows nothing of them.
        if getattr(self._model, "train_function", None) is not None:
            if hasattr(self._model, "_record_training_state_sharding_spec"):  # JAX.
                self._model._record_training_state_sharding_spec()
            self._model.make_train_function(force=True)

    def read(self) -> dict[str, Array]:
        """The masks by weight name, uint8."""
        return dict(self._masks)

    def assign(self, masks: Arrays) -> None:
        """Sets the masks; weights are not changed."""
        self._masks = {name: np.asarray(masks[name] != 0, np.uint8) for name in self.names}
        for attached in self._attached.values():
            attached.assign(self._masks)
        stale = [name for name, found in self._constraints.items()
                 if found.assign(self._masks[name], self._tokens)]
        if stale:
            warnings.warn(
                "A step that JAX has compiled for another model, or in a loop of your own, keeps "
                "pruned weights at zero by the masks that it was compiled with. Received: new "
                f"masks of {', '.join(stale[:3])}, which such a step trains. Compile it again: "
                "other_model.compile(...), or jax.jit of your step.", stacklevel=4)

    def freshen_slots(self) -> None:
        """Gives the slots of pruned weights their initial values.

        An optimizer that trained the model before has momenta for them, which would move them.
        """
        for optimizer in optimizer_state.stepping(self._model):
            self._freshen(optimizer)

    def _freshen(self, optimizer: Any) -> None:
        pruned = {name: mask for name, mask in self._masks.items() if not mask.all()}
        fresh = optimizer_state.fresh_slots(optimizer) if pruned and optimizer.built else {}
        for name, mask in pruned.items():
            for kind, slot in optimizer_state.slots_of(optimizer, self._weights[name]).items():
                slot.assign(np.where(mask != 0, keras.ops.convert_to_numpy(slot.value),
                                     fresh.get(kind, 0.0)))

    def zero_pruned(self) -> None:
        """Sets pruned weights to zero."""
        assign_weights(self._model, mask_arrays.apply(self._values(), self._masks), self._weights)

    def _values(self) -> dict[str, Array]:
        if hasattr(self._model, "jax_state_sync"):  # What a fit that was interrupted has left.
            self._model.jax_state_sync()
        return {name: keras.ops.convert_to_numpy(variable.value)
                for name, variable in self._weights.items()}

    def _warn_if_moved(self) -> None:
        moved = [name for name, value in self._values().items()
                 if value[self._masks[name] == 0].any()]
        if moved:
            warnings.warn(
                f"Pruned weights of {self._model.name!r} are not zero in {', '.join(moved[:3])}, "
                "as after load_weights of a file from before they were pruned. They get no "
                "gradient, and stay as they are in this training. Load weights of the sparse "
                "network, or rewind it: ticket.apply(model).", stacklevel=3)


def check_whole_filters(model: Any, structures: Mapping[str, Structure]) -> None:
    """Checks masks that layers have in another model: a search of filters needs whole ones.

    Args:
      model: a model that has no masks itself.
      structures: weight name -> the structure that it is to be pruned in.

    Raises:
      LotteryError: if the search is of filters, and single weights are pruned.
    """
    variables, groups = named_weights(model), groups_of(structures)
    masks = {name: found.read() if (found := ZeroConstraint.of(variables[name]))
             else np.ones(tuple(variables[name].shape), np.uint8) for name in structures}
    whole = masks_of_zeros(groups, masks) if groups else masks
    broken = [name for name, mask in masks.items() if np.any(mask != whole[name])]
    if broken:
        raise LotteryError(
            "A search that prunes filters needs a model of which whole filters are left. Received: "
            f"{model.name!r}, whose layers have masks of single weights, by a ticket or search of "
            f"another model, in {', '.join(broken[:3])}. Leave structure= out, or build it anew.")
