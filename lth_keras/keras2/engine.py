"""The engine for tf_keras: a model with pruning wrappers as `search.network.Network`."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from lth_keras.core.fractions import Prunable
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.structures.filters import Filters, groups_of, masks_of_zeros
from lth_keras.core.structures.structure import Structure
from lth_keras.errors import LotteryError
from lth_keras.files import provenance
from lth_keras.graph.coupling import couple
from lth_keras.graph.unit_activations import UnitActivations
from lth_keras.keras2 import apply_ticket as tickets
from lth_keras.keras2 import loss_gradient, optimizer_state, rewinding
from lth_keras.keras2.graph import LAYERS as LAYERS  # noqa: PLC0414  For `graph`.
from lth_keras.keras2.inspection.pruners import note_pruner
from lth_keras.keras2.masking.masked_layer import MaskedLayer
from lth_keras.keras2.masking.masked_weights import own_constraint, ZeroConstraint
from lth_keras.keras2.masking.weight_names import (
    check_keras2,
    is_built,
    Masked,
    masked,
    named_weights,
    replicas_own,
    wrappers,
)
from lth_keras.keras2.masking.wrap import prune_low_magnitude
from lth_keras.keras2.masking.wrap_weights import KEPT_DENSE
from lth_keras.keras2.random_generators import generators, unkept
from lth_keras.keras2.rewinding import Snapshot
from lth_keras.search import model_identity
from lth_keras.search.fit.hooks import Hooks
from lth_keras.search.network import FitStart, Network, PUT_BACK, Restored, Slots
from lth_keras.search.rounds import Rounds

apply_ticket = tickets.apply_ticket
_NOT_ALONE = ("With workdir=, nothing else may restore a fit. Received: a BackupAndRestore beside "
              "the LotteryTicketCallback; leave it out.")


def network(model: Any, **options: Any) -> "WrappedNetwork":
    """The network of a wrapped tf_keras model; see `search.network.Network`."""
    if options:
        raise LotteryError("A model of tf_keras is told what to prune when it is wrapped: "
                           "lth.prune_low_magnitude(model, "
                           f"{', '.join(f'{name}=...' for name in options)}). Received: "
                           f"{', '.join(options)} for a search.")
    return WrappedNetwork(model)


def keep_sparse(model: Any, structure: str | None = None) -> Any:
    """Wraps a sparse model with masks where its weights are zero; see `lth.keep_sparse`."""
    wrapped = model if wrappers(model) else prune_low_magnitude(model, structure=structure)
    found = masked(wrapped)
    weights = {name: rewinding.stored(item.weight) for name, item in found.items()}
    groups = groups_of(structures_of(wrapped, found))
    rewinding.assign_masks(wrapped, masks_of_zeros(groups, weights) if groups else {
        name: (value != 0).astype(np.uint8) for name, value in weights.items()})
    return wrapped


def announce_search(model: Any) -> None:
    """Notes that a search of the model is on its way, before any callback of its fit is called."""
    note_pruner(model)


def structures_of(model: Any, weights: Mapping[str, Masked]) -> dict[str, Structure]:
    """The structure of each weight; where filters are pruned, all share the network's groups.

    Args:
      model: a wrapped model.
      weights: its masked weights by name.

    Raises:
      LotteryError: if the masks are not those of the groups.
    """
    found = {name: item.structure for name, item in weights.items()}
    makers = {id(weights[name].weight) for name, each in found.items() if each.coupled}
    if not makers:
        return found
    coupling = couple(model, {id(variable): name for name, variable in named_weights(
        model).items()}, makers)
    if coupling.weights != set(weights):
        raise LotteryError(
            "A model whose filters are pruned must have a mask for all that hangs on them, and for "
            "no other weight. Received: masked, but on no filter "
            f"{sorted(set(weights) - coupling.weights)}; without a mask "
            f"{sorted(coupling.weights - set(weights))}. Wrap the model as a whole, by "
            'lth.prune_low_magnitude(model, structure="filters").')
    # As it was when the model was wrapped, which alone knows what was asked for; that of a loaded
    # model is told from its wrappers.
    return dict.fromkeys(weights, Filters.of(
        coupling.groups, vars(model).get(KEPT_DENSE, coupling.dense)))


class WrappedNetwork(Network):
    """A tf_keras model with pruning wrappers, as `search.network.Network`."""

    def __init__(self, model: Any):
        check_keras2(model)
        note_pruner(model)
        self.model = model
        self.packages = provenance.TF_KERAS
        self._weights = masked(model)
        self.prunable: Mapping[str, Prunable] = {
            name: item.prunable for name, item in self._weights.items()}
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(item.weight.shape) for name, item in self._weights.items()}
        self.structures = structures_of(model, self._weights)
        # tfmot's own wrapper masks weights in the forward pass, so an optimizer step moves pruned
        # weights away from zero until the next one; a checkpoint in between would have them.
        self._stray = [item for item in self._weights.values()
                       if not isinstance(item.wrapper, MaskedLayer)]
        self._by_weight: dict[int, frozenset[str]] = {}  # Slots that are compared, by optimizer.

    def check_ready(self) -> None:
        model = self.model
        if not wrappers(model) or not is_built(model) or getattr(model, "optimizer", None) is None:
            raise LotteryError("A search needs a model that is built, wrapped by "
                               "lth.prune_low_magnitude and compiled, at least with an optimizer. "
                               f"Received: {model.name!r}, which is not. Call "
                               "model.compile(optimizer).")

    # Weights and masks.

    def weights(self) -> dict[str, Array]:
        return rewinding.read(named_weights(self.model))

    def weight_types(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {name: (tuple(variable.shape), str(variable.dtype))
                for name, variable in named_weights(self.model).items()}

    def prunable_weights(self) -> dict[str, Array]:
        return rewinding.read({name: item.weight for name, item in self._weights.items()})

    def masks(self) -> dict[str, Array]:
        return rewinding.read_masks(self.model)

    def assign(self, weights: Arrays, masks: Arrays) -> None:
        rewinding.assign(self.model, weights, masks)

    def assign_masks(self, masks: Arrays) -> None:
        rewinding.assign_masks(self.model, masks)

    def zero_pruned(self) -> None:
        for item in self._weights.values():
            item.weight.assign(item.weight * item.mask)

    def enforce(self) -> None:
        for item in self._stray:
            item.weight.assign(item.weight * item.mask)

    # The state of a training.

    def capture(self, rewinds: bool = True) -> Snapshot:
        return Snapshot.of(self.model, rewinds)

    def snapshot(self, weights: Mapping[str, Array], optimizer: list[Array],
                 counters: list[dict[str, int]]) -> Snapshot:
        return Snapshot(dict(weights), optimizer, rewinding.fresh_slots(self.model), counters)

    def restore(self, snapshot: Any, masks: Arrays) -> Restored:
        restored: Restored = snapshot.restore(self.model, masks)
        return restored

    def restore_all(self, snapshot: Any) -> None:
        Snapshot(**vars(snapshot)).restore_all(self.model)

    def beside(self) -> list[Any]:
        return [*(generator.state for generator in generators(self.model)),
                *replicas_own(self.model)]

    def stored(self, variable: Any) -> Array:
        return rewinding.stored(variable)

    def thresholds(self) -> dict[str, Array]:
        return {name: rewinding.stored(item.threshold) for name, item in self._weights.items()}

    def assign_thresholds(self, thresholds: Arrays) -> None:
        for name, item in self._weights.items():
            item.threshold.assign(thresholds[name])

    # How the model is trained.

    def compiled(self) -> tuple[Any, ...]:
        return (id(self.model.optimizer), *map(id, self.model.trainable_variables))

    def iterations(self, within: bool = True) -> int:
        return optimizer_state.iterations(self.model, within)

    def learning_rate(self) -> "float | None":
        return rewinding.learning_rate(self.model)

    def unreached(self) -> list[str]:
        return sorted({item.wrapper.layer.name for item in self._weights.values()
                       if isinstance(item.weight.constraint, ZeroConstraint)
                       and item.weight.constraint.read_to_train
                       and not item.weight.constraint.has_gradient})

    def slots(self, theta: Any) -> Slots:
        slots, fresh = {}, {}
        for optimizer, values in zip(optimizer_state.stepping(self.model), theta.fresh_slots,
                                     strict=True):
            if id(optimizer) not in self._by_weight:
                self._by_weight[id(optimizer)] = optimizer_state.slots_by_weight(optimizer)
            for name, item in self._weights.items():
                if not isinstance(item.weight.constraint, ZeroConstraint):
                    continue  # tfmot's own wrapper does not mask gradients.
                for slot, variable in optimizer_state.slots_of(optimizer, item.weight).items():
                    if slot in values and slot in self._by_weight[id(optimizer)]:
                        slots[name, slot] = rewinding.stored(variable)
                        fresh[name, slot] = values[slot]
        return slots, fresh

    def unstepped(self, theta: Any) -> list[str]:
        # A constraint of the user's own may move a weight that gets no gradient.
        return optimizer_state.unstepped(self.model, {
            name: item.weight for name, item in self._weights.items()
            if own_constraint(item.weight) is None}, theta)

    def check_trained(self, final: Arrays, masks: Arrays) -> None:
        # A wrapped layer reads its weights masked, whoever trains them; but masks are among what
        # Keras saves and puts back as weights.
        other = [name for name, mask in self.masks().items()
                 if not np.array_equal(mask, masks[name] != 0)]
        if other:
            raise LotteryError(
                "A model must keep the masks of its level, which are among its weights. Received: "
                f"other masks of {', '.join(other[:3])} than the search gave the model. {PUT_BACK}")

    def loss_gradient(self, scoring_data: Any) -> Callable[[], Arrays]:
        batches = loss_gradient.batches(scoring_data)
        gradient = loss_gradient.LossGradient(self.model)
        gradient.mean(itertools.islice(batches, 1))  # An error here comes before hours of training.
        return lambda: gradient.mean(batches)

    def activations(self, scoring_data: Any) -> Callable[[], Arrays]:
        batches = loss_gradient.batches(scoring_data)
        found = UnitActivations(self.model, {id(variable): name for name, variable in named_weights(
            self.model).items()}, groups_of(self.structures))

        def mean(data: Iterable[Any]) -> dict[str, Array]:
            return found.mean(keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in data)
        mean(itertools.islice(batches, 1))
        return lambda: mean(batches)

    # One `fit`.

    def check_fit(self, schedule: Rounds) -> None:
        model = self.model
        found = wrappers(model)
        if not found:
            raise LotteryError("LotteryTicketCallback needs a model with pruning wrappers. "
                               f"Received: {model.name!r}, in which no layer is wrapped. Call "
                               "model = lth.prune_low_magnitude(model), then compile it.")
        for wrapper in found:
            # Some layers create their weights in their first call only, after they are "built".
            linked = not isinstance(wrapper, MaskedLayer) or wrapper.linked
            if not (wrapper.built and linked):
                raise LotteryError(
                    "The model must be built before fit, so that its initial weights can be "
                    f"captured. Received: {wrapper.name!r} without weights. Call the model on one "
                    "batch, or model.build(input_shape).")
            if not isinstance(wrapper, MaskedLayer) and wrapper.pruning_schedule != schedule:
                raise LotteryError(
                    "A model wrapped by tfmot must have the callback's schedule, so that tfmot "
                    f"does not prune by itself. Received: {wrapper.name!r} with "
                    f"{wrapper.pruning_schedule!r}, callback with {schedule!r}. "
                    "Use tfmot.sparsity.keras.prune_low_magnitude(model, pruning_schedule="
                    "schedule) and LotteryTicketCallback(schedule).")

    def begin_fit(self, schedule: Rounds) -> None:
        for wrapper in wrappers(self.model):
            if not isinstance(wrapper, MaskedLayer):
                # tfmot's own wrapper would prune by itself; after its schedule's last step it
                # does not.
                wrapper.pruning_step.assign(wrapper.pruning_schedule.last_step)

    def steps_per_execution(self) -> int | None:
        if getattr(self.model, "autotune_steps_per_execution", False):
            return None
        steps = self.model._steps_per_execution
        return 1 if steps is None else int(steps.numpy())

    def check_not_restored(self) -> None:
        # BackupAndRestore leaves no public trace of having restored a model.
        state = getattr(self.model, "_training_state", None)
        backups = getattr(state, "read_checkpoint_manager", None)
        if backups is not None and backups.latest_checkpoint:
            raise LotteryError(
                "A search cannot be resumed from a backup of BackupAndRestore, which has neither "
                "theta_k nor the level. Received: a model restored from "
                f"{backups.latest_checkpoint!r}. Delete the backup, start with a fresh model, and "
                "use LotteryTicketCallback(workdir=...) to resume searches.")

    def finalize(self) -> None:
        rewinding.finalize(self.model)

    def callback_list(self, callbacks: Sequence[Any], params: Mapping[str, Any]) -> Any:
        for callback in callbacks:
            if not isinstance(callback, (keras.callbacks.Callback, Hooks)):
                kind = f"{type(callback).__module__}.{type(callback).__qualname__}"
                raise LotteryError(
                    "round_callbacks must be callbacks of tf_keras (Keras 2), as the model is. "
                    f"Received: {kind}. Make them with `import tf_keras as keras`: "
                    "keras.callbacks.EarlyStopping(...).")
        return keras.callbacks.CallbackList(list(callbacks), model=self.model, **params)

    def hold_start(self, starts: FitStart) -> None:
        # One of ours there is left over from a fit that was interrupted before it began.
        if not isinstance(getattr(self.model, "_training_state", None), (_Start, type(None))):
            raise LotteryError(_NOT_ALONE)
        if self.model.distribute_strategy.extended._in_multi_worker_mode():
            raise LotteryError("workdir= needs a fit in one process. Received: a fit under "
                               f"{type(self.model.distribute_strategy).__name__}, in several.")
        self._start = self.model._training_state = _Start(self.model, starts)

    def check_start(self, starts: FitStart) -> None:
        if not self._start.asked:
            raise LotteryError(_NOT_ALONE)

    def release_start(self, starts: FitStart) -> None:
        state = getattr(self.model, "_training_state", None)
        if isinstance(state, _Start) and state.starts is starts:
            self.model._training_state = None

    # What makes a model the same in another process.

    def identity(self) -> dict[str, Any]:
        return model_identity.of(self, bool(self.model._jit_compile))

    def unkept_draws(self) -> Iterable[str]:
        return unkept(self.model)


class _Start:
    """What `fit` asks for its first epoch; BackupAndRestore uses the same attribute."""

    def __init__(self, model: Any, starts: FitStart):
        self._model, self.starts = model, starts
        self._fit = model.history  # Each fit has its own.
        self.asked = False

    def maybe_load_initial_counters_from_ckpt(
            self, steps_per_epoch: int | None, initial_epoch: int, mode: Any) -> tuple[Any, int]:
        """Keras' question as `fit` begins: at which epoch and step?"""
        self.asked = True
        self._model._training_state = None  # For this fit alone.
        if self._model.history is not self._fit:
            return initial_epoch, 0
        return self.starts.first_epoch(initial_epoch), 0
