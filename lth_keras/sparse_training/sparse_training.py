"""`lth.SparseTraining`: trains a sparse network whose masks move while it trains."""

import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lth_keras import providers
from lth_keras.arguments import check_choice, check_share, check_whole
from lth_keras.core import invariants
from lth_keras.core.masks import Array
from lth_keras.errors import DivergedError, InvariantError, LotteryError
from lth_keras.graph.kinds import package_of
from lth_keras.sparse_training import draws, mask_moves, schedules, starts
from lth_keras.sparse_training.host import watched
from lth_keras.sparse_training.largest import any_nan, size_bits
from lth_keras.sparse_training.mask_moves import METHODS
from lth_keras.sparse_training.sparse_optimizer import in_settings, SparseOptimizer

_REGROWING = ("set", "rigl")
Pairs = list[tuple[Any, Any]]  # Of a gradient or None, and a variable of the model.


class SparseTraining(SparseOptimizer):
    """An optimizer that trains a sparse network, and moves its masks.

    It wraps an optimizer of yours, which trains the weights that are kept:

        static   random masks that stay as they are
        gradual  dense at first; every `every` steps from step `begin`, and in step `until`, the
                 smallest |w| of each kernel go, until 1 - (1 - i/n)^3 of all that are to go are
                 gone after update i of n
        set      random masks; every `every` steps up to step `until`, in each kernel, the share
                 drop/2 (1 + cos(pi t / until)) of what is kept goes, the smallest |w|, and as many
                 grow at random
        rigl     the same, but those with the largest gradients grow

    A step in which masks of set and rigl move changes no weight.  Grown weights, and what the
    optimizer holds of them, begin at zero; so does what is pruned end.

    The model stays an ordinary one: its kernels hold zeros where they are pruned, from the moment
    that this optimizer is made.  So any way to train works, compiled or not.

    Args:
      model: a built model of tf_keras or Keras 3 that nothing has pruned.
      optimizer: an optimizer of the same Keras that has taken no step, or its name.
      method: one of the above.
      density: the share of the weights of all kernels that is kept in the end, in [0, 1]; or kernel
        name -> a whole number.
      distribution: how many weights each kernel keeps: "erk", "uniform" or "balanced"; see
        `initial.distributions`.
      every: the number of steps from one update to the next, >= 1.
      until: the last step that may be an update; for gradual, the one that reaches the density. For
        RigL and SET the papers take 75% of the training.
      begin: for gradual: the first step that may be an update, >= 0.
      drop: for set and rigl: the largest share that goes, in (0, 1].
      include: names, types or functions of layers to prune although they are left out by default.
      exclude: names, types or functions of layers to keep dense.
      seed: the seed of masks and draws.

    Raises:
      LotteryError: if an argument is not one of the above, or the model or the optimizer is of a
        kind that does not work.

    Example:
      >>> import tf_keras as keras
      >>> model = keras.Sequential([
      ...     keras.layers.Input((4,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(1)])
      >>> optimizer = SparseTraining(model, "adam", "rigl", density=0.2, every=2, until=6)
      >>> model.compile(optimizer, "mse")
      >>> x = np.random.default_rng(0).normal(size=(64, 4))
      >>> history = model.fit(x, x[:, :1], epochs=4, verbose=0)
      >>> optimizer.ticket().density
      0.2

    Reference: Zhu & Gupta 2017, arXiv:1710.01878 (gradual); Mocanu et al. 2018, arXiv:1707.04780
    (SET); Evci et al., ICML 2020, arXiv:1911.11134 (RigL).
    """

    def __new__(cls, model: Any, *arguments: Any, **options: Any) -> "SparseTraining":
        """Makes one for the model's Keras."""
        made = object.__new__(cls if cls is not SparseTraining else providers.provider(
            providers.SPARSE_TRAINING[package_of(model)]))  # type: ignore[arg-type]
        assert isinstance(made, SparseTraining)
        return made

    def __init__(self, model: Any, optimizer: Any, method: str = "rigl", *, density: Any,
                 distribution: str = "erk", every: int = 100, until: "int | None" = None,
                 begin: int = 0, drop: float = 0.3, include: Any = (), exclude: Any = (),
                 seed: int = 0):
        check_choice("method", method, METHODS)
        for name, value, least in (("every", every, 1), ("begin", begin, 0), ("seed", seed, None)):
            check_whole(name, value, least)
        check_share("drop", drop)
        if method != "static":
            _check_until(method, begin, every, until)
        self.host = self._open(model, optimizer, include, exclude)
        self._method, self._drop = method, drop
        self._begin, self._every, self._until = begin, every, until or 0
        kept = starts.counts(self._shapes, density, "density", distribution)
        self._settings = _settings(method, density, distribution, begin=begin, every=every,
                                   until=until, drop=drop)
        self._new_state(kept, seed)
        host, tables = self.host, self._tables(kept)
        self.state.tables = {name: host.new(f"updates/{name}", table)
                             for name, table in tables.items()}
        host.build(host.trained)
        fresh = host.fresh_slots()
        # What the wrapped optimizer holds of each weight, and its value for one that never moved.
        self.state.slots = {id(variable): [(slot, fresh.get(kind, 0.0)) for kind, slot
                                      in host.slots(variable).items()]
                            for variable in host.trained}
        self._start()
        watched(model, self, self._check_start)

    def _tables(self, kept: dict[str, int]) -> dict[str, Array]:
        # For each update, how many weights a kernel keeps or drops.
        if self._method == "static":
            return {}
        if self._method == "gradual":
            updates = -((self._begin - self._until) // self._every)
            return {name: schedules.cubic_counts(int(np.prod(shape)), kept[name], updates)
                    for name, shape in self._shapes.items()}
        return {name: schedules.cosine_drops(number, self._drop, self._every, self._until)
                for name, number in kept.items()}

    def _start(self) -> None:
        host, state = self.host, self.state
        kept = {name: int(host.read(number)) for name, number in state.counts.items()}
        for name, table in self._tables(kept).items():
            host.write(state.tables[name], table)
        masks = starts.random_masks(kept, self._shapes, self._seed)
        for name, kernel in host.kernels.items():
            mask = (masks[name] != 0) | (self._method == "gradual")
            host.write(state.masks[name], mask)
            host.write(kernel, self._left(name, mask))

    def _left(self, name: str, mask: Array) -> Array:
        return np.where(mask, self.host.read(self.state.theta[name]), np.float32(0))

    def _update(self, pairs: Pairs) -> None:
        host = self.host
        before = {}
        if self._method in _REGROWING:
            before = {id(one): host.value(one) for _, variable in pairs
                      for one in (variable, *(slot for slot, _ in self.state.slots[id(variable)]))}
        host.apply(self._masked(pairs), [variable for _, variable in pairs])
        moves, update = self._update_of_step()

        def after(one: Any) -> Any:
            # The step of an update changes no weight, and nothing that the optimizer holds of it.
            return host.value(one) if id(one) not in before else host.ops.where(
                moves, before[id(one)], host.value(one))
        names = {id(kernel): name for name, kernel in host.kernels.items()}
        for gradient, variable in pairs:
            if id(variable) in names:
                self._move(names[id(variable)], moves, update, gradient, after)
            elif before:
                for one in (variable, *(slot for slot, _ in self.state.slots[id(variable)])):
                    host.put(one, after(one))

    def _masked(self, pairs: Pairs) -> list[Any]:
        # Gradients without those of pruned weights.
        masks = {id(kernel): self.state.masks[name] for name, kernel in self.host.kernels.items()}
        return [gradient if gradient is None or id(variable) not in masks else self.host.ops.where(
            self.host.value(masks[id(variable)]), gradient, 0.0) for gradient, variable in pairs]

    def _update_of_step(self) -> tuple[Any, Any]:
        # Whether the step that was just taken moves masks, and the number of the update.
        if self._method == "static":
            return False, 0
        first, last = (self._begin, self._until) if self._method == "gradual" else (
            self._every, self._until // self._every * self._every)
        updates = next(iter(self.state.tables.values())).shape[0]
        return mask_moves.update_of(self.host.ops, self.host.steps(), first, self._every, last=last,
                                    updates=updates)

    def _move(self, name: str, moves: Any, update: Any, gradient: Any,
              after: Callable[[Any], Any]) -> None:
        host, ops, kernel = self.host, self.host.ops, self.host.kernels[name]
        weight, mask = after(kernel), host.value(self.state.masks[name])
        if self._method != "static":
            old, number = mask, ops.take(host.value(self.state.tables[name]), update)
            mask = ops.cond(moves, lambda: mask_moves.shrunk(ops, weight, old, number)
                            if self._method == "gradual" else mask_moves.regrown(
                                ops, weight, old, number, self._growth(name, gradient)),
                            lambda: old)
            host.put(self.state.masks[name], mask)
        kept = ops.where(mask, weight, 0.0)
        if self._method == "rigl" and gradient is not None:
            # A gradient that is NaN is in no order: the loss of the next step says so.
            nan = ops.cond(moves, lambda: any_nan(ops, size_bits(ops, gradient)), lambda: moves)
            kept = ops.where(nan, float("nan"), kept)
        host.put(kernel, kept)
        for slot, fresh in self.state.slots[id(kernel)]:
            host.put(slot, ops.where(mask, after(slot), fresh))

    def _growth(self, name: str, gradient: Any) -> Any:
        # The order in which pruned weights grow.
        host = self.host
        if self._method == "set":
            return draws.words(host.ops, self._shapes[name], host.value(self.state.key),
                               host.steps(), [*host.kernels].index(name))
        if gradient is None:  # The loss does not depend on the kernel.
            return host.ops.positions(self._shapes[name]) * 0
        return size_bits(host.ops, gradient)

    def masks(self) -> dict[str, Array]:
        """The masks as they are now: kernel name -> uint8 array.

        Raises:
          DivergedError: if a weight is NaN or infinite.
          LotteryError: if something else has written weights that the masks prune.
        """
        masks = self._finite_masks()
        for name, kernel in self.host.kernels.items():
            bad = int(np.count_nonzero(self.host.read(kernel)[masks[name] == 0]))
            if bad:
                raise LotteryError(
                    "The weights that the masks prune must be zero. Received: "
                    f"{bad:,} of {name!r} that are not: something else has written them, as "
                    "EarlyStopping(restore_best_weights=True) writes those of an earlier step. "
                    "Leave that out, or prune them with optimizer.settle().")
        return masks

    def settle(self) -> None:
        """Prunes the model by the masks of the last step, where something else wrote its weights.

        Training leaves pruned weights at zero by itself; weights of an earlier step, which
        EarlyStopping(restore_best_weights=True) restores, were pruned by earlier masks.  A warning
        says where masks keep other numbers of weights than they should in the end.
        """
        masks = super().masks()
        for name, kernel in self.host.kernels.items():
            value = self.host.read(kernel)
            self.host.write(kernel, np.where(masks[name], value, np.zeros((), value.dtype)))
        self._warn_of_counts(masks)

    def _finite_masks(self) -> dict[str, Array]:
        for name, kernel in self.host.kernels.items():
            bad = int(np.count_nonzero(~np.isfinite(self.host.read(kernel))))
            if bad:
                raise DivergedError("Weights must be finite. Received: "
                                    f"{bad} of {name!r} that are not. Lower the learning rate.")
        return super().masks()

    def check(self) -> None:
        """Checks that pruned weights are zero, and as many are kept as there should be.

        Raises:
          InvariantError: if not, or if the optimizer holds anything of a pruned weight, or if the
            model has other weights before the first step than when this optimizer was made.
          DivergedError: if a weight is NaN or infinite.
        """
        host, masks = self.host, self._finite_masks()
        invariants.pruned_are_zero(
            {name: host.read(kernel) for name, kernel in host.kernels.items()}, masks)
        for name, kernel in host.kernels.items():
            slots = {(name, str(number)): (host.read(slot), fresh)
                     for number, (slot, fresh) in enumerate(self.state.slots[id(kernel)])}
            invariants.slots_are_fresh({key: slot for key, (slot, _) in slots.items()},
                                       {key: fresh for key, (_, fresh) in slots.items()}, masks)
            number = int(host.read(self.state.counts[name]))
            if self._method == "gradual":
                table = host.read(self.state.tables[name])
                number = int(table[int(host.read(self._update_of_step()[1]))])
            if int(masks[name].sum()) != number:
                raise InvariantError(f"{name!r} must keep {number:,} weights. Received: "
                                     f"{int(masks[name].sum()):,}.")
        self._check_start(error=InvariantError)


def _check_until(method: str, begin: int, every: int, until: "int | None") -> None:
    if until is None:
        raise LotteryError(f"{method} needs until=, the last step in which masks move. Received: "
                           "none. Give a number of steps, such as 75% of the training.")
    first = begin + 1 if method == "gradual" else every
    check_whole("until", until, first)


def _settings(method: str, density: Any, distribution: str, **schedule: Any) -> Mapping[str, Any]:
    # Read-only: tf_keras would put a dict in another's place, which JSON does not know.
    used = {"static": (), "gradual": ("begin", "every", "until")}.get(
        method, ("every", "until", "drop"))
    return types.MappingProxyType({
        "sparse_training": method, "density": in_settings(density),
        **({} if isinstance(density, Mapping) else {"distribution": distribution}),
        **{name: schedule[name] for name in used}})
