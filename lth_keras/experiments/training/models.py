"""Builds and compiles the network of a configuration, and draws its initial weights.

The same for both engines: what differs between tf_keras and Keras 3 is a `KerasPackage`.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.validation import OWN
from lth_keras.experiments.training import networks
from lth_keras.experiments.training.networks import Network, NETWORKS
from lth_keras.search.layer_tree import Slot
from lth_keras.sparse_training.sparse_training import SparseTraining
from lth_keras.sparse_training.supermask import Supermask
from lth_keras.sparse_training.supermask_methods import METHODS as SUPERMASKS

_SEEDED = {
    "tf_keras": "Keep a tf.random.Generator as an attribute of the layer, and draw by its methods.",
    "keras": "Keep a keras.random.SeedGenerator as an attribute of the layer, and give it as seed "
             "to functions of keras.random."}


@dataclasses.dataclass(frozen=True)
class KerasPackage:
    """One Keras, as far as networks are built with it.

    Attributes:
      keras: the package, tf_keras or keras.
      slots: a function from a model to its weights, each with the layer and attribute that hold
        it.
      settings: a function from a dtype policy to a context in which layers are created.
      to_numpy: a function from a tensor to a NumPy array.
      reset_names: begins again to number the names that Keras gives to layers.
      unseeded: a function from a model to what draws random numbers in training, in its layers,
        from a state that is not theirs, so that no seed decides what is drawn.
    """

    keras: Any
    slots: Callable[[Any], list[Slot]]
    settings: Callable[[str], contextlib.AbstractContextManager[None]]
    to_numpy: Callable[[Any], Array]
    reset_names: Callable[[], None]
    unseeded: Callable[[Any], list[str]]

    def build(self, config: Config, input_shape: tuple[int, ...], classes: int,
              change: Callable[[Any], Any] = lambda model: model) -> Any:
        """Builds the network of a configuration, without compiling it.

        Args:
          config: the settings network, dropout, initializer and dtype_policy are used.
          input_shape: the shape of one example.
          classes: the number of classes, >= 2.
          change: makes the model that is returned from the one that is built.

        Returns:
          A functional or Sequential model that outputs one float32 logit for each class.  Its
          weights are not those to train from: `initial_weights` draws them for each replicate.

        Raises:
          LotteryError: if no network has this name, or it has no dropout and `dropout` is not 0,
            or it builds a model of the other Keras, or one whose logits are not float32, or one
            of the user's own with weights that its initializers do not give, or with layers that
            draw random numbers by no seed.
        """
        network = networks.of(config)
        if ":" in config.network:  # Names that Keras gives depend on what was built before.
            self.reset_names()
        if config.dropout and not _takes(network, "dropout"):
            able = [name for name, other in NETWORKS.items() if _takes(other, "dropout")]
            raise LotteryError("dropout must be 0 unless the network has hidden dense layers, as "
                               f"{', '.join(able)} have. Received: dropout={config.dropout} with "
                               f"{config.network}.")
        options = {"dropout": config.dropout} if config.dropout else {}
        if _takes(network, "keras"):
            options["keras"] = self.keras
        with self.settings(config.dtype_policy):
            model = network(input_shape, classes, **options)
        if not isinstance(model, self.keras.Model):
            raise LotteryError(
                f"A network must be a model of {self.keras.__name__}, the Keras of the run's "
                f"engine. Received: {config.network} of {type(model).__module__}. Build it with "
                "the package that an argument `keras` gives, or set engine to the other.")
        _check_outputs(model, config)
        if ":" in config.network:
            self._check_logits(model, input_shape, config.network)
            self._check_drawn(model, config.network)
            drawn = self.unseeded(model) if getattr(model, "inputs", None) else []
            if drawn:
                raise LotteryError(
                    "What layers draw at random must depend on a seed of their own, so that a run "
                    f"comes to the same again. Received: {config.network}, which draws in "
                    f"{', '.join(drawn)} by another. {_SEEDED[self.keras.__name__]}")
        if config.initializer != OWN:
            self._set_initializer(model, config.initializer)
        with self.settings(config.dtype_policy):
            return change(model)

    def _set_initializer(self, model: Any, name: str) -> None:
        # `initial_weights` reads the layers' initializers.
        kind, _, deviation = name.partition("normal_")
        initializers = self.keras.initializers
        # Kernels only, depthwise ones too: biases stay zero, and normalisation keeps its own.
        for slot in self.slots(model):
            if slot.attribute.endswith("kernel"):
                setattr(slot.owner, _initializer_name(slot), initializers.get(name) if kind else
                        initializers.RandomNormal(stddev=float(deviation)))

    def _check_logits(self, model: Any, input_shape: tuple[int, ...], name: str) -> None:
        # By what it gives: a softmax may be a function, or the end of a model within the model.
        examples = np.stack([np.full(input_shape, value, np.float32) for value in (0, 1)])
        given = self.to_numpy(model(examples, training=False))
        if given.min() >= 0 and np.allclose(given.sum(axis=-1), 1, atol=1e-3):
            raise LotteryError(
                "A network must give logits: the loss has the softmax in it. Received: "
                f"{name}, whose outputs are shares that sum to 1. Leave its softmax out.")

    def _check_drawn(self, model: Any, name: str) -> None:
        # Every replicate is drawn anew: what a function has trained or loaded would be lost.
        for slot in self.slots(model):
            one, again, other = (self._drawn(slot, np.random.default_rng(seed))
                                 for seed in (0, 0, 1))
            if not np.array_equal(one, again):
                raise LotteryError(
                    "An initializer must draw the same values again from the same seed. Received: "
                    f"that of {slot.path!r} in {name}, which does not. Give it an argument seed, "
                    "which its get_config returns, or take one of Keras' own.")
            if np.array_equal(one, other) and not np.array_equal(
                    one, self.to_numpy(slot.variable)):
                raise LotteryError(
                    "The weights of a network are drawn anew for each replicate, by the "
                    f"initializers of its layers. Received: {name}, which gives {slot.path!r} "
                    "other values, such as trained ones, that would be lost. Leave them to an "
                    "initializer, or search in your own fit (lth.LotteryTicketCallback), which "
                    "begins with the weights that a model has.")

    def compile(self, model: Any, optimizer: Any, **options: Any) -> None:
        """Compiles a model with an optimizer, cross-entropy and accuracy.

        Args:
          model: a model that outputs logits.
          optimizer: an optimizer of the same Keras.
          **options: further arguments of Keras' `compile`.
        """
        # Weight decay is part of the optimizer: the validation loss, which decides early stopping,
        # is cross-entropy alone.
        model.compile(optimizer, self.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                      metrics=["accuracy"], **options)

    def initial_weights(self, model: Any, rng: np.random.Generator) -> dict[str, Array]:
        """Draws new values for every weight of a model, from the initializers of its layers.

        Args:
          model: a built model, with or without pruning wrappers; it is not changed.
          rng: the random generator; on one backend, the values depend on nothing else.

        Returns:
          Weight name -> array, in the order of the model's layers.

        Raises:
          LotteryError: if a layer has no initializer for one of its weights.
        """
        return {slot.path: self._drawn(slot, rng) for slot in self.slots(model)}

    def _drawn(self, slot: Slot, rng: np.random.Generator) -> Array:
        initializer = getattr(slot.owner, _initializer_name(slot))
        settings = initializer.get_config()
        # Keras' own initializers would draw from the global random state.
        if "seed" in settings:
            settings["seed"] = int(rng.integers(2**31))
        fresh = type(initializer).from_config(settings)
        dtype = getattr(slot.variable, "true_dtype", slot.variable.dtype)
        value: Array = self.to_numpy(fresh(tuple(slot.variable.shape), dtype=dtype))
        if slot.attribute == "bias" and getattr(slot.owner, "unit_forget_bias", False):
            value = np.array(value)  # As an LSTM builds it: input, forget, cell and output gates.
            np.split(value, 4)[1][...] = 1
        return value


def training_graph(model: Any) -> Any:
    """What TensorFlow computes when a model of either Keras is called in training, as a FuncGraph.

    Args:
      model: a functional or Sequential model, whose variables are TensorFlow's.
    """
    import tensorflow as tf  # Keras 3 has it only with this backend.

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def call(inputs: Any) -> Any:
        return model(inputs, training=True)
    specs = [tf.TensorSpec(each.shape, each.dtype) for each in model.inputs]
    return tf.function(call).get_concrete_function(specs if len(specs) > 1 else specs[0]).graph


def stateful_draws(graph: Any) -> list[str]:
    """The names of the operations of a FuncGraph that draw from TensorFlow's global state."""
    definition = graph.as_graph_def()
    bodies = [definition.node, *(each.node_def for each in definition.library.function)]
    return [node.name for nodes in bodies for node in nodes if "seed2" in node.attr]


def sparse_optimizer(model: Any, inner: Any, config: Config, method: str) -> Any:
    """Makes the optimizer that a branch trains with.

    How many weights are kept is set before each training, by the optimizer's `begin`.

    Args:
      model: a built model of either Keras.
      inner: the optimizer of the configuration, of the same Keras.
      config: the settings steps and mask_update_every are used.
      method: one of `lth.Supermask` or `lth.SparseTraining`.
    """
    if method in SUPERMASKS:
        return Supermask(model, inner, 1.0, method)
    # Evci et al., ICML 2020, appendix B, for RigL and SET: three quarters of the training.
    return SparseTraining(model, inner, method, density=1.0, every=config.mask_update_every,
                          until=config.steps * 3 // 4,
                          begin=config.steps // 10 if method == "gradual" else 0)


def _check_outputs(model: Any, config: Config) -> None:
    # With logits of 8 or 11 bits the losses of many validations are the same, and ties move the
    # early stop.
    found = [getattr(each.dtype, "name", each.dtype)
             for each in getattr(model, "outputs", None) or ()]
    if found and set(found) != {"float32"}:
        raise LotteryError(
            "A network must give its logits in float32, whatever else it computes in. Received: "
            f"{config.network} with dtype_policy={config.dtype_policy}, which gives "
            f"{', '.join(found)}. Give its last layer dtype=\"float32\".")


def _takes(network: Network, name: str) -> bool:
    return name in inspect.signature(network).parameters


def _initializer_name(slot: Slot) -> str:
    # By Keras' naming: kernel -> kernel_initializer, depthwise_kernel -> depthwise_initializer.
    attribute = slot.attribute.removeprefix("_")
    for stem in (attribute, attribute.removesuffix("_kernel"),
                 slot.path.rpartition("/")[2].removesuffix("_kernel")):
        if hasattr(slot.owner, f"{stem}_initializer"):
            return f"{stem}_initializer"
    raise LotteryError("A layer must have an initializer for each of its weights, to draw new "
                       f"values. Received: {slot.path!r} of {type(slot.owner).__name__}, which "
                       f"has no attribute {attribute}_initializer.")
