"""The engine for Keras 3: an ordinary model as `search.network.Network`, and tickets for it."""

import importlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from lth_keras.core import masks as mask_arrays
from lth_keras.core.fractions import Prunable
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.structures.filters import groups_of, masks_of_zeros
from lth_keras.core.structures.structure import Structure
from lth_keras.core.structures.words import of_arguments
from lth_keras.errors import LotteryError, TicketError
from lth_keras.files import provenance
from lth_keras.files.ticket import check_fits, Ticket
from lth_keras.graph.unit_activations import UnitActivations
from lth_keras.keras3 import loss_gradient, optimizer_state
from lth_keras.keras3.assigned import assign_weights
from lth_keras.keras3.graph import LAYERS as LAYERS  # noqa: PLC0414  For `graph`.
from lth_keras.keras3.model_masks import check_whole_filters, ModelMasks
from lth_keras.keras3.weights import (
    check_keras3,
    described,
    in_structure,
    is_graph,
    named_weights,
)
from lth_keras.search import model_identity
from lth_keras.search.fit.hooks import Hooks
from lth_keras.search.network import (
    check_same_variables,
    FitStart,
    Network,
    PUT_BACK,
    Restored,
    Slots,
    Snapshot,
)
from lth_keras.search.rounds import Rounds

_NOT_ALONE = ("With workdir=, nothing else may restore a fit. Received: a BackupAndRestore beside "
              "the LotteryTicketCallback; leave it out.")


def network(model: Any, **options: Any) -> "PlainNetwork":
    """The network of a Keras 3 model; see `PlainNetwork`."""
    return PlainNetwork(model, **options)


def apply_ticket(ticket: Ticket, model: Any) -> Any:
    """Assigns a ticket's weights and masks to a model, which trains on sparse; see `Ticket.apply`.

    Raises:
      TicketError: if weights differ in name or shape. The model is not changed then.
    """
    _check_built(model, TicketError)
    variables = named_weights(model)
    check_fits(ticket, {name: tuple(variable.shape) for name, variable in variables.items()})
    found = ModelMasks.of(model)
    if found is not None and set(found.names) != set(ticket.masks):
        raise TicketError(
            "The model and the ticket must have the same prunable weights. Received: prunable in "
            f"the ticket only {sorted(set(ticket.masks) - set(found.names))}, in the model only "
            f"{sorted(set(found.names) - set(ticket.masks))}. Build the model anew.")
    assign_weights(model, mask_arrays.apply(ticket.weights, ticket.masks), variables)
    structure = "filters" if ticket.in_filters and is_graph(model) else None
    masks = found or ModelMasks(model, ticket.masks, structure)
    masks.assign(ticket.masks)
    masks.freshen_slots()
    return model


def keep_sparse(model: Any, structure: str | None = None) -> Any:
    """Keeps the zeros of a sparse model in every training from now on; see `lth.keep_sparse`."""
    network = PlainNetwork(model, structure=structure)
    weights, groups = network.prunable_weights(), groups_of(network.structures)
    network.assign_masks(masks_of_zeros(groups, weights) if groups else {
        name: value != 0 for name, value in weights.items()})
    network.freshen_slots()
    return model


def announce_search(model: Any) -> None:
    """Does nothing: a model that is not wrapped expects no search."""


class PlainNetwork(Network):
    """A Keras 3 model, which is not wrapped, as `search.network.Network`.

    Args:
      model: a built model. If it has masks already, the same weights are pruned; the masks that
        its layers have in another model are its own to begin with.
      include: names, types or functions of layers to prune although they are left out by default.
      exclude: names, types or functions of layers to keep dense.
      structure: the word of the structure in which weights are pruned; see `core.structures`.
    """

    def __init__(self, model: Any, include: Any = (), exclude: Any = (),
                 structure: str | None = None):
        _check_built(model, LotteryError)
        self.model = model
        masks = ModelMasks.of(model)
        asked = of_arguments(structure=structure or (masks.structure if masks else None))
        again = masks.names if masks and not (include or exclude) else []
        if again and not asked.coupled:
            chosen = described(model, again)
            structures: Mapping[str, Structure] = dict.fromkeys(chosen, asked)
        else:
            chosen, structures = in_structure(model, include, exclude, asked, again)
        if masks is not None and set(masks.names) != set(chosen):
            raise LotteryError(
                "A model that is pruned must go on with the same weights. Received: masks of "
                f"{', '.join(masks.names)}, asked for {', '.join(chosen)}. Leave include and "
                "exclude out, or build the model anew.")
        if masks is None:
            check_whole_filters(model, structures)
        self.packages = provenance.KERAS.get(keras.backend.backend(), ("keras",))
        self._masks = masks or ModelMasks(model, chosen, str(asked) if asked.coupled else None)
        self._variables = named_weights(model)
        self._weights = {name: self._variables[name] for name in chosen}
        self.prunable: Mapping[str, Prunable] = chosen
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(variable.shape) for name, variable in self._weights.items()}
        self.structures = structures
        self._by_weight: dict[int, frozenset[str]] = {}  # Slots that are compared, by optimizer.
        self._starts_at: int | None = None  # The epoch at which a resumed fit was told to begin.

    def check_ready(self) -> None:
        if getattr(self.model, "optimizer", None) is None:
            raise LotteryError("A search needs a model that is compiled, at least with an "
                               f"optimizer. Received: {self.model.name!r}, which is not. Call "
                               "model.compile(optimizer).")
        self._masks.attach()

    # Weights and masks.

    def weights(self) -> dict[str, Array]:
        return self._read(self._variables)

    def weight_types(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {name: (tuple(variable.shape), str(variable.dtype))
                for name, variable in self._variables.items()}

    def prunable_weights(self) -> dict[str, Array]:
        return self._read(self._weights)

    def masks(self) -> dict[str, Array]:
        return self._masks.read()

    def assign(self, weights: Arrays, masks: Arrays) -> None:
        self._sync()
        assign_weights(self.model, mask_arrays.apply(weights, masks), self._variables)
        self._masks.assign(masks)

    def assign_masks(self, masks: Arrays) -> None:
        self._sync()
        self._masks.assign(masks)

    def freshen_slots(self) -> None:
        """Gives the slots of pruned weights their initial values."""
        self._masks.freshen_slots()

    def zero_pruned(self) -> None:
        self._sync()
        self._masks.zero_pruned()

    def enforce(self) -> None:
        pass  # The optimizer has done so.

    # The state of a training.

    def capture(self, rewinds: bool = True) -> Snapshot:
        self._sync()
        return Snapshot(self.weights(), [_stored(variable) for variable in self._beside_weights()],
                        self._fresh_slots() if rewinds else [])

    def snapshot(self, weights: Mapping[str, Array], optimizer: list[Array],
                 counters: list[dict[str, int]]) -> Snapshot:
        return Snapshot(dict(weights), optimizer, self._fresh_slots(), counters)

    def restore_all(self, snapshot: Snapshot) -> None:
        self._sync()
        assign_weights(self.model, snapshot.weights, self._variables)
        for variable, value in zip(self._same_variables(snapshot), snapshot.optimizer, strict=True):
            variable.assign(value)

    def restore(self, snapshot: Snapshot, masks: Arrays) -> Restored:
        # A momentum left in the slot of a pruned weight would move it away from zero again.
        self._sync()
        assign_weights(self.model, mask_arrays.apply(snapshot.weights, masks), self._variables)
        slots = {id(slot): (masks[name], fresh.get(kind, 0.0))
                 for optimizer, fresh in zip(optimizer_state.stepping(self.model),
                                             snapshot.fresh_slots, strict=True)
                 for name, weight in self._weights.items()
                 for kind, slot in optimizer_state.slots_of(optimizer, weight).items()}
        saved = self._same_variables(snapshot)
        for variable, value in zip(saved, snapshot.optimizer, strict=True):
            mask, fresh = slots.get(id(variable), (None, 0.0))
            variable.assign(value if mask is None
                            else np.where(mask != 0, value, value.dtype.type(fresh)))
        trained = len(self.model.trainable_variables)
        all_slots = {id(slot) for optimizer in optimizer_state.stepping(self.model)
                     for weight in self.model.trainable_variables
                     for slot in optimizer_state.slots_of(optimizer, weight).values()}
        return Restored(
            trained, len(self._variables) - trained + len(optimizer_state.states(self.model)),
            sum(id(variable) in all_slots for variable in saved),
            max(int(_stored(optimizer._iterations)) for optimizer
                in optimizer_state.stepping(self.model)), self.learning_rate())

    def beside(self) -> list[Any]:
        torch = [_TorchDraws()] if keras.backend.backend() == "torch" else []
        return [*optimizer_state.seed_states(self.model), *torch]

    def stored(self, variable: Any) -> Array:
        self._sync()
        return _stored(variable)

    def thresholds(self) -> dict[str, Array]:
        return {}

    def assign_thresholds(self, thresholds: Arrays) -> None:
        pass

    # How the model is trained.

    def compiled(self) -> tuple[Any, ...]:
        return (id(self.model.optimizer), *map(id, self.model.trainable_variables))

    def iterations(self, within: bool = True) -> int:
        self._sync()
        return optimizer_state.iterations(self.model, within)

    def learning_rate(self) -> "float | None":
        self._sync()
        # A schedule has no value of its own: it follows from the iteration count.
        rate = getattr(optimizer_state.stepping(self.model)[0], "_learning_rate", None)
        return float(_stored(rate)) if isinstance(rate, keras.Variable) else None

    def unreached(self) -> list[str]:
        return []  # Gradients are masked in the optimizer, however they were computed.

    def slots(self, theta: Snapshot) -> Slots:
        self._sync()
        slots, fresh = {}, {}
        for optimizer, values in zip(optimizer_state.stepping(self.model), theta.fresh_slots,
                                     strict=True):
            if id(optimizer) not in self._by_weight:
                self._by_weight[id(optimizer)] = optimizer_state.slots_by_weight(optimizer)
            for name, weight in self._weights.items():
                for kind, variable in optimizer_state.slots_of(optimizer, weight).items():
                    if kind in values and kind in self._by_weight[id(optimizer)]:
                        slots[name, kind] = _stored(variable)
                        fresh[name, kind] = values[kind]
        return slots, fresh

    def unstepped(self, theta: Snapshot) -> list[str]:
        self._sync()
        return optimizer_state.unstepped(self.model, self._weights, self._beside_weights(), theta)

    def check_trained(self, final: Arrays, masks: Arrays) -> None:
        moved = [name for name, mask in masks.items() if final[name][mask == 0].any()]
        if moved:
            raise LotteryError(
                "Pruned weights stay at zero if all that trains a model does so through its "
                "optimizers, which have the masks. Received: pruned weights that are not zero in "
                f"{', '.join(moved[:3])}. {PUT_BACK} Otherwise hold every optimizer in an "
                "attribute of the model before the search begins, and assign nothing to its "
                "kernels in train_step or in other callbacks.")

    def loss_gradient(self, scoring_data: Any) -> Callable[[], Arrays]:
        batches = loss_gradient.scoring_batches(scoring_data)
        gradient = loss_gradient.LossGradient(self.model, self._weights)

        def mean(data: Iterable[Any]) -> dict[str, Array]:
            # A pruned weight gets no gradient, here as in training.
            self._sync()
            return mask_arrays.apply(gradient.mean(data), self.masks())
        mean(itertools.islice(batches, 1))  # An error here comes before hours of training.
        return lambda: mean(batches)

    def activations(self, scoring_data: Any) -> Callable[[], Arrays]:
        batches = loss_gradient.scoring_batches(scoring_data)
        found = UnitActivations(self.model, {id(variable): name for name, variable
                                             in self._variables.items()},
                                groups_of(self.structures))

        def mean(data: Iterable[Any]) -> dict[str, Array]:
            self._sync()
            with loss_gradient.torch_draws_kept():
                return found.mean(loss_gradient.inputs_of(batch) for batch in data)
        mean(itertools.islice(batches, 1))
        return lambda: mean(batches)

    # One `fit`.

    def check_fit(self, schedule: Rounds) -> None:
        self.check_ready()

    def begin_fit(self, schedule: Rounds) -> None:
        pass

    def steps_per_execution(self) -> int | None:
        return int(self.model.steps_per_execution or 1)

    def check_not_restored(self) -> None:
        if self.model._initial_epoch not in (None, 0, self._starts_at):
            raise LotteryError(
                "A search cannot be resumed from a backup of BackupAndRestore, which has neither "
                "theta_k nor the level. Received: a model restored to epoch "
                f"{self.model._initial_epoch}. Delete the backup, start with a fresh model, and "
                "use LotteryTicketCallback(workdir=...) to resume searches.")

    def finalize(self) -> None:
        self._sync()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def callback_list(self, callbacks: Sequence[Any], params: Mapping[str, Any]) -> Any:
        for callback in callbacks:
            if not isinstance(callback, (keras.callbacks.Callback, Hooks)):
                kind = f"{type(callback).__module__}.{type(callback).__qualname__}"
                raise LotteryError(
                    "round_callbacks must be callbacks of Keras 3, as the model is. Received: "
                    f"{kind}. Make them with `import keras`: keras.callbacks.EarlyStopping(...).")
        return keras.callbacks.CallbackList(list(callbacks), model=self.model, **params)

    def hold_start(self, starts: FitStart) -> None:
        epoch = starts.first_epoch(None)
        if epoch is not None:
            self.model._initial_epoch = self._starts_at = epoch

    def check_start(self, starts: FitStart) -> None:
        if self.model._initial_epoch not in (None, 0, self._starts_at):
            raise LotteryError(_NOT_ALONE)
        self.model._initial_epoch = None  # For this fit alone.

    def release_start(self, starts: FitStart) -> None:
        self.model._initial_epoch = None

    # What makes a model the same in another process.

    def identity(self) -> dict[str, Any]:
        return model_identity.of(self, bool(self.model.jit_compile))

    def unkept_draws(self) -> Iterable[str]:
        return ()

    def _sync(self) -> None:
        # On JAX, `fit` holds the state of a training outside the variables.
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()

    def _read(self, variables: Mapping[str, Any]) -> dict[str, Array]:
        self._sync()
        return {name: _stored(variable) for name, variable in variables.items()}

    def _beside_weights(self) -> list[Any]:
        return optimizer_state.variables(self.model, self._masks.variables)

    def _same_variables(self, snapshot: Snapshot) -> list[Any]:
        found = self._beside_weights()
        check_same_variables(self.model.name, found, snapshot)
        return found

    def _fresh_slots(self) -> list[dict[str, float]]:
        return [optimizer_state.fresh_slots(optimizer)
                for optimizer in optimizer_state.stepping(self.model)]


class _TorchDraws:
    """The state of torch's own generator, which layers of the torch backend draw from."""

    @property
    def value(self) -> Any:
        return importlib.import_module("torch").get_rng_state()

    def assign(self, value: Array) -> None:
        torch = importlib.import_module("torch")
        torch.set_rng_state(torch.from_numpy(np.array(value)))


def _stored(variable: Any) -> Array:
    # The variable's own value: under mixed precision a layer sees it cast.
    value = np.array(keras.ops.convert_to_numpy(variable.value))
    value.setflags(write=False)  # All tickets share theta_k, and criteria receive it.
    return value


def _check_built(model: Any, error: type[LotteryError]) -> None:
    check_keras3(model)
    if not model.built or not model.weights:
        raise error("A model must be built before its weights are pruned. Received: "
                    f"{model.name!r}, which has no weights yet. Start it with keras.Input(shape), "
                    "or call it on one batch.")
