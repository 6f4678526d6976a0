"""`lth.Supermask`: finds a subnetwork of a network whose weights are not trained."""

import types
from typing import Any

import numpy as np

from lth_keras import providers
from lth_keras.arguments import check_choice, check_whole
from lth_keras.core import masks as mask_arrays
from lth_keras.core.masks import Array
from lth_keras.core.pruning import without_lowest
from lth_keras.errors import DivergedError, InvariantError, LotteryError
from lth_keras.graph.kinds import package_of
from lth_keras.sparse_training import starts, supermask_methods
from lth_keras.sparse_training.array_ops import NUMPY
from lth_keras.sparse_training.host import watched
from lth_keras.sparse_training.sparse_optimizer import in_settings, SparseOptimizer
from lth_keras.sparse_training.supermask_methods import METHODS


class Supermask(SparseOptimizer):
    """An optimizer that trains scores in place of weights: which weights to keep.

    It wraps an optimizer of yours, which trains a score s for each weight w of the model's kernels;
    the weights stay as they are:

        edge_popup  of each kernel, the share `kept` with the largest |s| is kept; the gradient of s
                    is g w sign(s), g that for the effective weight, for all weights
        bernoulli   each weight is kept with the probability sigmoid(s), drawn anew in each step;
                    the gradient is g w sigmoid'(s).  In the end those above 1/2 are kept, or, with
                    `kept`, the share with the largest s
        biprop      edge_popup with the weights alpha sign(w), alpha the mean |w| of those kept

    The model stays an ordinary one: its kernels hold w where it is kept, and zero elsewhere, from
    the moment that this optimizer is made.  So any way to train works, compiled or not.  Biases,
    the scales and shifts of normalisations, and kernels that are excluded, stay as they are;
    statistics of batch normalization move as always.

    How well it works depends on the initial weights: `kaiming_normal`, scaled by sqrt(1 / kept),
    keeps the size of activations (keras.initializers.VarianceScaling(2 / kept)).

    Args:
      model: a built model of tf_keras or Keras 3 that nothing has pruned.
      optimizer: an optimizer of the same Keras that has taken no step, or its name. Its learning
        rate is that of scores; weight decay acts on them.
      kept: the share of each kernel that is kept, in [0, 1]: of n weights, round(kept x n); of
        equal scores the first go. Or kernel name -> a whole number. For bernoulli it may be left
        out.
      method: one of the above.
      constants: for bernoulli: whether each weight is sign(w) times the standard deviation of its
        kernel.
      rescale: for bernoulli: whether kept weights are multiplied by n / kept.
      include: names, types or functions of layers to mask although `lth.prune_low_magnitude` would
        leave them out.
      exclude: names, types or functions of layers to leave as they are.
      seed: the seed of scores and draws.

    Raises:
      LotteryError: if an argument is not one of the above, or the model or the optimizer is of a
        kind that does not work.

    Example:
      >>> import tf_keras as keras
      >>> model = keras.Sequential([
      ...     keras.layers.Input((4,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(1)])
      >>> optimizer = Supermask(model, keras.optimizers.SGD(0.1, momentum=0.9), kept=0.5)
      >>> model.compile(optimizer, "mse")
      >>> x = np.random.default_rng(0).normal(size=(64, 4))
      >>> history = model.fit(x, x[:, :1], epochs=2, verbose=0)
      >>> optimizer.ticket().summary().splitlines()[0]
      'ticket of level 1: 50 of 100 prunable weights kept, density 50.00%'

    Reference: Ramanujan et al., CVPR 2020, arXiv:1911.13299 (edge-popup); Zhou et al., NeurIPS
    2019, arXiv:1905.01067 (supermasks); Diffenderfer & Kailkhura, ICLR 2021, arXiv:2103.09377.
    """

    def __new__(cls, model: Any, *arguments: Any, **options: Any) -> "Supermask":
        """Makes one for the model's Keras."""
        made = object.__new__(cls if cls is not Supermask else providers.provider(
            providers.SUPERMASK[package_of(model)]))  # type: ignore[arg-type]
        assert isinstance(made, Supermask)
        return made

    def __init__(self, model: Any, optimizer: Any, kept: Any = None, method: str = "edge_popup", *,
                 constants: bool = False, rescale: bool = False, include: Any = (),
                 exclude: Any = (), seed: int = 0):
        check_choice("method", method, METHODS)
        check_whole("seed", seed)
        if kept is None and method != "bernoulli":
            raise LotteryError(f"{method} needs kept=, the share of each kernel that is kept. "
                               "Received: none. Give kept=0.5.")
        if (constants or rescale) and method != "bernoulli":
            raise LotteryError("constants and rescale are for bernoulli. Received: "
                               f"method={method!r}. Leave them out.")
        host = self._open(model, optimizer, include, exclude)
        if host.constrained:
            raise LotteryError("A supermask keeps weights as they are, against any constraint. "
                               f"Received: a constraint of {', '.join(host.constrained)}. Leave "
                               "the layer out by exclude=, or build it without.")
        self.host, self._method = host, method
        self._constants, self._rescale = bool(constants), bool(rescale)
        self._settings = types.MappingProxyType({
            "supermask": method, "kept": in_settings(kept), **({} if method != "bernoulli" else {
                "constants": self._constants, "rescale": self._rescale})})
        # -1 for those that sigmoid(s) > 1/2 decides on.
        number = dict.fromkeys(host.kernels, -1) if kept is None else starts.counts(
            self._shapes, kept, "kept", None)
        self._new_state(number, seed)
        state = self.state
        state.scores = {name: host.new(f"score/{name}", np.zeros(shape, np.float32))
                        for name, shape in self._shapes.items()}
        state.near = {name: host.new(f"threshold/{name}", np.zeros((), np.int32))
                      for name in self._shapes}
        state.held = state.theta if not constants else {
            name: host.new(f"constant/{name}", np.zeros(shape, np.float32))
            for name, shape in self._shapes.items()}
        host.build([*state.scores.values()])
        self._start()
        watched(model, self, self._check_start)

    def _start(self) -> None:
        host, state = self.host, self.state
        found = starts.scores(self._shapes, self._seed)
        for name in host.kernels:
            # Zhou et al. start from sigmoid(0) = 1/2.
            host.write(state.scores[name], found[name] * (self._method != "bernoulli"))
            if self._constants:
                host.write(state.held[name], starts.constants(host.read(state.theta[name])))
        self._mask()

    def _update(self, pairs: list[tuple[Any, Any]]) -> None:
        host, state = self.host, self.state
        names = {id(kernel): name for name, kernel in host.kernels.items()}
        found = {names[id(variable)]: gradient for gradient, variable in pairs
                 if id(variable) in names}
        host.apply([None if found.get(name) is None else supermask_methods.score_gradient(
            host.ops, self._method, found[name], host.value(state.held[name]),
            host.value(state.scores[name]), mask=host.value(state.masks[name]),
            rescale=self._rescale)
            for name in state.scores], [*state.scores.values()])
        self._mask()

    def _mask(self) -> None:
        # From the scores to the masks of the next step.
        host, state, ops = self.host, self.state, self.host.ops
        for place, (name, kernel) in enumerate(host.kernels.items()):
            scores = host.value(state.scores[name])
            if self._method == "bernoulli":
                mask, nan = supermask_methods.drawn(
                    ops, scores, host.value(state.key), host.steps(), place)
            else:
                mask, near, nan = supermask_methods.by_size(
                    ops, scores, host.value(state.counts[name]), host.value(state.near[name]))
                host.put(state.near[name], near)
            host.put(state.masks[name], mask)
            found = supermask_methods.effective(
                ops, self._method, host.value(state.held[name]), mask, self._rescale)
            # A score that is NaN is in no order: the loss of the next step says so.
            host.put(kernel, ops.where(nan, float("nan"), found))

    def _scores(self) -> dict[str, Array]:
        found = {name: self.host.read(scores) for name, scores in self.state.scores.items()}
        for name, scores in found.items():
            bad = int(np.count_nonzero(np.isnan(scores)))
            if bad:
                raise DivergedError(f"Scores must not be NaN. Received: {bad} NaN among those of "
                                    f"{name!r}. Lower the learning rate.")
        return found

    def masks(self) -> dict[str, Array]:
        """The masks that the training has found so far: kernel name -> uint8 array.

        For bernoulli they are not those of the last step, but those of the most probable weights.

        Raises:
          DivergedError: if a score is NaN.
          LotteryError: if something else has written a kernel; for bernoulli, that is not seen.
        """
        masks = self._found()
        for name in masks if self._method != "bernoulli" else ():
            bad = int(np.count_nonzero(
                self.host.read(self.host.kernels[name]) != self._left(name, masks[name] != 0)))
            if bad:
                raise LotteryError(
                    "The model must hold what the masks leave of its initial weights. Received: "
                    f"{bad:,} of {name!r} that are otherwise: "
                    "something else has written them, as EarlyStopping(restore_best_weights=True) "
                    "writes those of an earlier step. Leave that out, or put the masks' weights "
                    "back with optimizer.settle().")
        return masks

    def _found(self) -> dict[str, Array]:
        scores = self._scores()
        if self._method != "bernoulli":
            return super().masks()
        found = {}
        for name, given in scores.items():
            values: np.ndarray[Any, np.dtype[np.float32]] = given.astype(np.float32)
            number = int(self.host.read(self.state.counts[name]))
            found[name] = np.asarray(values > 0, np.uint8) if number < 0 else without_lowest(
                {name: values}, mask_arrays.ones({name: values.shape}), values.size - number)[name]
        return found

    def settle(self) -> None:
        """Leaves the network of `masks()` in the model.

        For bernoulli, training draws others.  For the other methods the model holds it anyway,
        unless something else has written its kernels, as EarlyStopping(restore_best_weights=True)
        writes those of an earlier step.

        Raises:
          DivergedError: if a score is NaN.
        """
        masks = self._found()
        self._warn_of_counts(masks)
        for name, mask in masks.items():
            self.host.write(self.state.masks[name], mask != 0)
            self.host.write(self.host.kernels[name], self._left(name, mask != 0))

    def _left(self, name: str, mask: Array) -> Array:
        now, found = self.host.read(self.host.kernels[name]), supermask_methods.effective(
            NUMPY, self._method, self.host.read(self.state.held[name]), mask, self._rescale)
        if self._method == "biprop" and np.allclose(now, found, rtol=1e-4, atol=0):
            found = np.sign(found) * np.abs(now).max(initial=0)  # Alpha is rounded otherwise.
        return np.asarray(found, now.dtype)

    def check(self) -> None:
        """Checks that the model holds nothing but initial weights and zeros, bit for bit.

        That is what its kernels must hold, by the masks that the scores stand for, and that all
        else that could be trained is as it was.  The alpha of biprop may differ by rounding.

        Raises:
          InvariantError: if not.
          DivergedError: if a score is NaN.
        """
        scores, host = self._scores(), self.host
        for name, kernel in host.kernels.items():
            mask = host.read(self.state.masks[name])
            if self._method != "bernoulli":
                number = int(host.read(self.state.counts[name]))
                exact = without_lowest({name: np.abs(scores[name])}, mask_arrays.ones(
                    {name: mask.shape}), mask.size - number)[name]
                _equal(f"The mask of {name!r} must keep the {number:,} largest scores", mask,
                       exact != 0)
            _equal(f"The kernel {name!r} must hold its initial weights and zeros",
                   host.read(kernel), self._left(name, mask))
        for name in host.frozen:
            _equal(f"The weight {name!r} must not be trained", host.read(host.weights[name]),
                   host.read(self.state.theta[name]))


def _equal(rule: str, found: Array, expected: Array) -> None:
    if found.tobytes() != expected.tobytes():
        count = int(np.count_nonzero(found != expected))
        raise InvariantError(f"{rule}. Received: {count:,} of {found.size:,} elements that differ.")
