"""What `lth.Supermask` and `lth.SparseTraining` have in common: an optimizer that holds masks."""

import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core import masks as mask_arrays
from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import LotteryError
from lth_keras.files import provenance
from lth_keras.files.ticket import Ticket
from lth_keras.sparse_training import starts
from lth_keras.sparse_training.host import Host

# Attributes of the optimizers of both Keras that steps of the wrapped one read, and of no other.
_OF_THE_WRAPPED = frozenset((
    "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum",
    "ema_overwrite_frequency", "jit_compile", "loss_scale_factor", "gradient_accumulation_steps"))


class SparseOptimizer:
    """Wraps an optimizer, and leaves zeros in the kernels of a model in every step.

    All that a training changes is in variables of the optimizer: saving them saves the training.

    Attributes:
      host: the model and the wrapped optimizer.
      state: the optimizer's variables by kind, each by weight name: theta, masks, and others.
    """

    host: Host
    state: types.SimpleNamespace
    inner_optimizer: Any
    _open: Callable[..., Host]  # Of each engine's class: makes itself an optimizer of its Keras.
    _optimizers: Any  # The module `optimizers` of that Keras.
    _settings: Mapping[str, Any]
    _seed: int
    _begun = False  # Whether a step has been seen.
    _told = False  # Whether a step without some kernel has been told.

    def _start(self) -> None:
        # Masks, scores and whatever else a training begins with, from self.state.theta.
        raise NotImplementedError

    def _update(self, pairs: list[tuple[Any, Any]]) -> None:
        # A step, from pairs of a gradient or None and a variable of the model.
        raise NotImplementedError

    def _left(self, name: str, mask: Array) -> Array:
        # What a mask leaves of a kernel's initial weights.
        raise NotImplementedError

    def _step(self, pairs: list[tuple[Any, Any]]) -> None:
        self._check_variables([variable for _, variable in pairs])
        self.host.outside(lambda: self._check_start(self.host.trained))
        self._update(pairs)

    def _check_variables(self, variables: Sequence[Any]) -> None:
        known, given = {id(one) for one in self.host.trained}, {id(one) for one in variables}
        unknown = [str(getattr(one, "path", one.name)) for one in variables if id(one) not in known]
        if unknown:
            raise LotteryError(
                "A sparse training trains the weights that were trainable in its model when it was "
                f"made. Received: {', '.join(unknown[:3])}, of a model around it or made trainable "
                "since. Make a new one of the model that you compile, and compile with it.")
        left = [name for name, kernel in self.host.kernels.items() if id(kernel) not in given]
        if left and not self._told:
            self._told = True
            warnings.warn(
                "The masks of a kernel move in the steps that train it. Received: a step without "
                f"{', '.join(left[:3])}, frozen since its optimizer was made, or trained in "
                "other steps. Freeze a layer before you make the optimizer.", stacklevel=2)

    def _check_start(self, of: "Sequence[Any] | None" = None,
                     error: type[LotteryError] = LotteryError) -> None:
        # Before the first step, the model holds what theta_0 and the masks say.
        host = self.host
        self._begun = self._begun or host.taken() > 0
        if self._begun:
            return
        looked = {id(variable) for variable in (host.weights.values() if of is None else of)}
        moved = [name for name, weight in host.weights.items()
                 if id(weight) in looked and not _same(host.read(weight), self._at_start(name))]
        if not moved:
            return
        message = ("The ticket of a sparse training has the weights that the model held when its "
                   f"optimizer was made. Received: others in {', '.join(moved[:3])}, as after "
                   "model.load_weights(). Load weights before you make the optimizer, or give "
                   "them to optimizer.begin(weights).")
        if any(name in host.kernels or name in host.frozen for name in moved):
            raise error(message)
        warnings.warn(message, stacklevel=3)  # Statistics, which move in a forward pass too.

    def _warn_of_counts(self, masks: Arrays) -> None:
        # At the end of a training, masks keep what the settings say.
        numbers = {name: int(self.host.read(number)) for name, number in self.state.counts.items()}
        off = [f"{int(np.count_nonzero(masks[name])):,} of {name!r} in place of {number:,}"
               for name, number in numbers.items()
               if number not in (-1, np.count_nonzero(masks[name]))]
        if off:
            warnings.warn(
                "At the end of a training, masks keep as many weights as the settings say. "
                f"Received: {', '.join(off[:3])}, after step {self.host.taken():,}. Train up to "
                "step until=, or set it to a step of your training; leave layers that are frozen "
                "(trainable=False) out by exclude=.", stacklevel=3)

    def _at_start(self, name: str) -> Array:
        if name in self.host.kernels:
            return self._left(name, self.host.read(self.state.masks[name]))
        return self.host.read(self.state.theta[name])

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(kernel.shape) for name, kernel in self.host.kernels.items()}

    def _new_state(self, kept: Mapping[str, int], seed: int) -> None:
        host, self._seed = self.host, seed
        new = host.new
        self.state = types.SimpleNamespace(
            theta={name: new(f"theta_0/{name}", host.read(weight))
                   for name, weight in host.weights.items()},
            masks={name: new(f"mask/{name}", np.ones(shape, bool))
                   for name, shape in self._shapes.items()},
            counts={name: new(f"kept/{name}", np.array(kept[name], np.int32))
                    for name in self._shapes},
            key=new("key", starts.key(seed)))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OF_THE_WRAPPED and "inner_optimizer" in vars(self):
            raise _not_here(f"{name}={value!r}", "Give it to your own optimizer when you make it")
        super().__setattr__(name, value)

    @property
    def learning_rate(self) -> Any:
        """The wrapped optimizer's, which may be set."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    def get_config(self) -> dict[str, Any]:
        """The wrapped optimizer, which a model that is loaded from a file is compiled with."""
        return {"optimizer": self._optimizers.serialize(self.inner_optimizer)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The wrapped optimizer: masks belong to a model that is there, and not to its file."""
        return cls._optimizers.deserialize(config["optimizer"], custom_objects=custom_objects)

    def exclude_from_weight_decay(self, *arguments: Any, **options: Any) -> None:
        """Refused: it is the wrapped optimizer that decays, and that is built already.

        Raises:
          LotteryError: always.
        """
        raise _not_here("exclude_from_weight_decay",
                        "Call it on your own optimizer before you wrap it")

    def begin(self, weights: Arrays, counts: "Mapping[str, int] | None" = None,
              seed: "int | None" = None) -> None:
        """Begins the training again, with other initial weights, without compiling anything anew.

        The wrapped optimizer gets the state that it had at first: slots, steps and learning rate.

        Args:
          weights: weight name -> theta_0, for all or some of the model's weights; the others get
            those of the training before, whatever the model holds now.
          counts: kernel name -> how many weights it keeps; by default as before.
          seed: what masks, scores and draws come from; by default as before.

        Raises:
          LotteryError: if a name is not one of the model's, or has another shape.
        """
        host, state = self.host, self.state
        wrong = [f"{name!r} of shape {np.shape(value)}" for name, value in weights.items()
                 if name not in host.weights
                 or np.shape(value) != tuple(host.weights[name].shape)]
        if wrong:
            raise LotteryError("begin takes arrays by the names and of the shapes of the model's "
                               f"weights. Received: {', '.join(wrong[:3])}. The model has "
                               f"{', '.join(host.weights)}.")
        if counts is not None:
            counts = starts.check_counts(self._shapes, counts, "counts")
            self._settings = _with_counts(self._settings, counts)
            for name, number in counts.items():
                host.write(state.counts[name], np.array(number, np.int32))
        if seed is not None:
            self._seed = seed
            host.write(state.key, starts.key(seed))
        for name, value in weights.items():
            host.write(state.theta[name], np.asarray(value))
        for name, weight in host.weights.items():
            host.write(weight, host.read(state.theta[name]))
        host.restart()
        self._start()
        self._begun = False

    def masks(self) -> dict[str, Array]:
        """The masks that the training has found so far: kernel name -> uint8 array."""
        return {name: self.host.read(mask).astype(np.uint8)
                for name, mask in self.state.masks.items()}

    def settle(self) -> None:
        """Leaves the network of `masks()` in the model, where training does not do so anyway."""

    def ticket(self) -> Ticket:
        """The ticket that the training has found so far, of level 1: theta_0 and the masks.

        A warning says where they keep other numbers of weights than they should in the end.

        Raises:
          DivergedError: if the training has diverged.
          LotteryError: if no step has been taken, and the model has other weights than it had when
            this optimizer was made; or if something else has written what the masks prune.
        """
        masks, settings = self.masks(), {**self._settings, "seed": self._seed}
        self._check_start()
        self._warn_of_counts(masks)
        return Ticket(
            {name: self.host.read(value) for name, value in self.state.theta.items()}, masks, 1, {
                "versions": provenance.versions(self.host.packages), "settings": settings,
                "fingerprint": provenance.fingerprint(settings),
                "density": mask_arrays.density(masks), "kept": mask_arrays.kept(masks),
                "size": mask_arrays.size(masks)})


def _same(one: Array, other: Array) -> bool:
    return one.tobytes() == other.tobytes() or bool((one == other).all())


def _not_here(received: str, instead: str) -> LotteryError:
    return LotteryError("A sparse training takes its steps by the optimizer that it wraps, as that "
                        f"was when it was wrapped. Received: {received}. {instead}.")


def _with_counts(settings: Mapping[str, Any], counts: Mapping[str, int]) -> Mapping[str, Any]:
    # As if they had been given as a mapping from the start.
    return types.MappingProxyType({
        name: in_settings(counts) if name in ("kept", "density") else value
        for name, value in settings.items() if name != "distribution"})


def in_settings(kept: Any) -> Any:
    """A number, or whole numbers by name, as JSON can hold them.

    Example:
      >>> in_settings({"w": np.int64(3)}), in_settings(0.5), in_settings(None)
      ({'w': 3}, 0.5, None)
    """
    if isinstance(kept, Mapping):
        return {name: int(number) for name, number in kept.items()}
    return kept
