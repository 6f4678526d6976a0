"""Trains several networks as one program of JAX, with the data on the device.

The program calls the model's own `train_step` and `test_step`, so any compiled Keras 3 model, loss,
optimizer and metrics will do.  Weights, masks, slots and seeds are its arguments: one compilation
serves every level, branch and replicate.  All arrays of the state have an axis for the networks,
over which the step is mapped.  The weights of least validation loss are kept on the device.

On a CPU, XLA's gradients of convolutions are some forty times slower in a loop than outside one:
there, a network with convolutions takes one step in a call.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax

from lth_keras.core.masks import Array
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training_keras3.augmentation import AUGMENTATIONS
from lth_keras.experiments.training_keras3.network_states import ModelLayout, NetworkState, Steps
from lth_keras.experiments.training_keras3.optimizers import scheduled

EVALUATED_TOGETHER = 1000  # Examples in a test step; more take memory and save no time.
_LEAST_EVALUATED = 50  # For each of several networks.

Logs = dict[str, Any]  # Metric -> float32, or an array with one for each network.


class Best(NamedTuple):
    """The weights of least validation loss.

    Attributes:
      loss: the least validation loss so far.
      trainable, others: as in `NetworkState`.
    """

    loss: Any
    trainable: list[Any]
    others: list[Any]


class JaxProgram:
    """The compiled training and evaluation of several networks of one architecture.

    Args:
      model: a compiled model.
      layout: where its weights lie in its state.
      data: the data set.
      augmentation: the name of an augmentation, one of `augmentation.AUGMENTATIONS`.
      together: how many networks are trained at the same time, >= 1.
      mapped: "vmap" for one program of all networks, or "map" for one after another within it.

    Attributes:
      together: how many networks are trained at the same time.
      mapped: "vmap" or "map".
      provenance: what decides the last bits of results: the device, `together` and `mapped`.
      has_convolutions: whether the step convolves.
    """

    def __init__(self, model: Any, layout: ModelLayout, data: Data, *,
                 augmentation: str = "none", together: int = 1, mapped: str = "vmap"):
        self._model, self._layout = model, layout
        self._augment, self._draws = AUGMENTATIONS[augmentation], augmentation != "none"
        self.together = together
        self.mapped = mapped
        self.provenance = {"device": str(jax.devices()[0].device_kind), "together": together,
                           "mapped": mapped}
        self._map = _mapping(together, mapped)
        self._everywhere, self._by_network = _shardings(together)
        self._train = self._placed(data.x_train), self._placed(data.y_train)
        self._test = self._placed(data.x_test), self._placed(data.y_test)
        self._test_indices = np.broadcast_to(np.arange(len(data.y_test), dtype=np.int32),
                                             (together, len(data.y_test)))
        self.has_convolutions = "convolution" in self._lowered(1).as_text()
        self._looped = not (self.has_convolutions and jax.default_backend() == "cpu")
        compiled = functools.partial(jax.jit, donate_argnums=(0,))
        # In all of them the networks' own arguments come first.
        self._interval = compiled(self._map(self._one_interval, 4))
        self._step = compiled(self._map(self._one_step, 3))
        self._validate = compiled(self._map(self._one_validation, 2))
        self._evaluate = jax.jit(self._map(self._one_evaluation, 2))
        self._state: Any = None
        self._best: Any = None

    def begin(self, states: Sequence[NetworkState], seeds: Sequence[int]) -> None:
        """Begins trainings.

        Args:
          states: the state of each network, `together` of them.
          seeds: of augmentation, for each network, in [0, 2**31).
        """
        self.put(states)
        # A copy: what is given to a compiled step is overwritten.
        self._best = Best(self._shared(np.full(self.together, np.inf, np.float32)),
                          *jax.tree.map(jnp.copy, (self._state.trainable, self._state.others)))
        self._seeds = self._shared(np.asarray(seeds, np.uint32))

    def interval(self, indices: Array, validation: Array, steps: Steps) -> Logs:
        """Trains and validates; returns metrics without waiting for them.

        Args:
          indices: indices of the examples of each step, int32, shape (networks, rows, batch).
          validation: indices of validation examples, int32, shape (networks, examples).
          steps: which of the rows to train, and the steps' numbers.

        Returns:
          Metric -> array of shape (networks,): those of the steps, and those of the validation
          with the prefix "val_".
        """
        steps = Steps(np.int32(steps.count), np.int32(steps.first),
                      np.float32(steps.rate_first), np.float32(steps.rate_stretch))
        rows, held_out = self._shared(indices), self._shared(validation)
        if self._looped:
            (self._state, self._best), logs = self._interval(
                (self._state, self._best), self._seeds, rows, held_out, (*self._train, steps))
            return dict(logs)
        for number in range(int(steps.count)):
            self._state = self._step(self._state, self._seeds, rows, np.int32(number),
                                     (*self._train, steps))
        (self._state, self._best), logs = self._validate(
            (self._state, self._best), held_out, *self._train)
        return dict(logs)

    def evaluate(self, part: str, indices: "Array | None" = None, best: bool = False) -> Logs:
        """Returns the metrics over examples, an array of shape (networks,) for each.

        Args:
          part: "train" or "test".
          indices: those of the examples, shape (networks, examples); all test examples if None.
          best: whether to evaluate the weights of least validation loss.
        """
        x, y = self._train if part == "train" else self._test
        rows = self._shared(self._test_indices if indices is None else indices)
        held = self._best if best else self._state
        return dict(self._evaluate((held.trainable, held.others), rows, x, y))

    def weights(self) -> list[dict[str, Array]]:
        """The weights of each network by name."""
        trainable, others = jax.device_get((self._state.trainable, self._state.others))
        return [self._layout.weights([value[number] for value in trainable],
                                     [value[number] for value in others])
                for number in range(self.together)]

    def states(self) -> list[NetworkState]:
        """The state of each network."""
        held = jax.device_get(self._state)
        return [NetworkState(*([value[number] for value in part] for part in held))
                for number in range(self.together)]

    def put(self, states: Sequence[NetworkState]) -> None:
        """Replaces the state of each network; the weights of least validation loss stay.

        Args:
          states: the state of each network, `together` of them.
        """
        self._state = self._shared(NetworkState(*(
            [np.stack(values) for values in zip(*parts, strict=True)]
            for parts in zip(*states, strict=True))))

    def hold(self, place: int) -> None:
        """Keeps the weights of least validation loss of a network, while others are trained on."""
        self._best = self._best._replace(loss=self._best.loss.at[place].set(-np.inf))

    def bytes(self, rows: int, batch_size: int, validation_size: int) -> int:
        """The device memory that training takes, without running it, in bytes.

        Args:
          rows: the number of steps in an interval.
          batch_size: examples in a step.
          validation_size: validation examples.
        """
        def shaped(tree: Any, front: tuple[int, ...] = (self.together,)) -> Any:
            kind: Any = jax.ShapeDtypeStruct
            return jax.tree.map(lambda value: kind(
                (*front, *np.shape(value)), np.asarray(value).dtype), tree)
        state = shaped(self._layout.fresh)
        best = Best(shaped(np.float32(0)), state.trainable, state.others)
        one = Steps(np.int32(0), np.int32(0), np.float32(0), np.float32(1))
        found = self._interval.lower(
            (state, best), shaped(np.uint32(0)), shaped(np.zeros((rows, batch_size), np.int32)),
            shaped(np.zeros(validation_size, np.int32)), (*self._train, one)).compile()
        sizes: Any = found.memory_analysis()
        return int(sizes.argument_size_in_bytes + sizes.output_size_in_bytes
                   + sizes.temp_size_in_bytes - sizes.alias_size_in_bytes)

    def flops(self, batch_size: int) -> float:
        """The floating-point operations of a step of one network, before XLA simplifies it."""
        return float(self._lowered(batch_size).cost_analysis()["flops"])

    # The functions below are compiled, for one network each.

    def _one_step(self, state: NetworkState, seed: Any, rows: Any, number: Any,
                  rest: tuple[Any, Any, Steps]) -> NetworkState:
        x, y, steps = rest
        chosen = rows[number]
        draws = jnp.zeros((*chosen.shape, 3))
        if self._draws:
            # Depends on the seed and the step alone, so a training that starts at step k augments
            # as the dense network did after k.
            key = jax.random.fold_in(jax.random.key(seed), steps.first + number)
            draws = jax.random.uniform(key, draws.shape)
        images = self._augment(x[chosen], draws)
        with scheduled(self._model.optimizer, steps.rate_first, steps.rate_stretch):
            _, after = self._model.train_step(tuple(state), (_scaled(images), y[chosen]))
        return NetworkState(*after)

    def _one_interval(self, held: Any, seed: Any, rows: Any, validation: Any,
                      rest: tuple[Any, Any, Steps]) -> Any:
        state, best = held
        x, y, steps = rest
        state = lax.fori_loop(0, steps.count, lambda number, now: self._one_step(
            now, seed, rows, number, rest), state)
        return self._one_validation((state, best), validation, x, y)

    def _one_validation(self, held: Any, validation: Any, x: Any, y: Any) -> Any:
        state, best = held
        logs = self._metrics(state.metrics)
        logs |= {f"val_{name}": value for name, value in self._one_evaluation(
            (state.trainable, state.others), validation, x, y).items()}
        finite = jnp.isfinite(jnp.stack([jnp.asarray(value, jnp.float32)
                                         for value in logs.values()])).all()
        better = finite & (logs["val_loss"] < best.loss)
        best = jax.tree.map(functools.partial(jnp.where, better),
                            Best(logs["val_loss"], state.trainable, state.others), best)
        return (state._replace(metrics=self._fresh_metrics()), best), logs

    def _one_evaluation(self, weights: Any, indices: Any, x: Any, y: Any) -> Logs:
        trainable, others = weights
        # The activations of convolutions take most of a device's memory.
        most = max(_LEAST_EVALUATED, EVALUATED_TOGETHER // self.together) \
            if self.has_convolutions else EVALUATED_TOGETHER
        together = min(len(indices), most)
        whole = len(indices) // together

        def test(metrics: Any, rows: Any) -> Any:
            _, after = self._model.test_step((trainable, others, metrics),
                                             (_scaled(x[rows]), y[rows]))
            return after[-1]
        portions = indices[:whole * together].reshape(whole, together)
        metrics = lax.fori_loop(0, whole, lambda part, now: test(now, portions[part]),
                                self._fresh_metrics())
        if len(indices) % together:
            metrics = test(metrics, indices[whole * together:])
        return self._metrics(metrics)

    def _fresh_metrics(self) -> list[Any]:
        return [jnp.asarray(value) for value in self._layout.fresh.metrics]

    def _metrics(self, values: Sequence[Any]) -> Logs:
        held = self._layout.variables.metrics
        with keras.StatelessScope(state_mapping=list(zip(held, values, strict=True))):
            return dict(self._model.get_metrics_result())

    def _placed(self, array: Array) -> Any:
        return jax.device_put(array, self._everywhere)

    def _shared(self, tree: Any) -> Any:
        return jax.device_put(tree, self._by_network)

    def _lowered(self, batch_size: int) -> Any:
        state = jax.tree.map(jnp.asarray, self._layout.fresh)
        return jax.jit(self._one_step).lower(
            state, np.uint32(0), np.zeros((1, batch_size), np.int32), 0, (
                *self._train, Steps(np.int32(1), np.int32(0), np.float32(0), np.float32(1))))


def _mapping(together: int, mapped: str) -> Any:
    # Returns (function, number of arguments with an axis for networks) -> function of several.
    def over(function: Any, own: int) -> Any:
        if together > 1 and mapped == "vmap":
            def several(*arguments: Any) -> Any:
                axes = (0,) * own + (None,) * (len(arguments) - own)
                return jax.vmap(function, axes)(*arguments)
        else:
            def several(*arguments: Any) -> Any:
                rest = arguments[own:]
                if together == 1:
                    one = function(*jax.tree.map(lambda value: value[0], arguments[:own]), *rest)
                    return jax.tree.map(lambda value: value[None], one)
                return lax.map(lambda each: function(*each, *rest), arguments[:own])
        return several
    return over


def _shardings(together: int) -> tuple[Any, Any]:
    # Where the data and where the networks lie: networks are shared out among all devices.
    devices = jax.devices()
    if together % len(devices):
        devices = devices[:1]
    mesh = jax.sharding.Mesh(np.asarray(devices), ("networks",))
    spec: Any = jax.sharding.PartitionSpec
    return (jax.sharding.NamedSharding(mesh, spec()),
            jax.sharding.NamedSharding(mesh, spec("networks")))


def _scaled(examples: Any) -> Any:
    # Pixels are kept as bytes, a quarter of the memory of floats, and divided by 255 only here.
    return examples.astype(jnp.float32) / 255 if examples.dtype == jnp.uint8 else examples
