"""The catalogue of models: each searched for three rounds, stripped, saved and loaded."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import networks
import numpy as np
import subclassed
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from compat import Case

import lth_keras as lth

layers = keras.layers
ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Model:
    """A model to try, and how.

    Attributes:
      title: what it is.
      build: makes it, built.
      include: what to prune besides the default.
      inputs: makes 8 examples; by default random ones of the shapes that the model takes.
      policy: Keras' mixed precision policy.
      no_xla: why even the dense model cannot be trained with jit_compile, if so.
      no_file: why even the dense model cannot be loaded from a .keras file, if so.
    """

    title: str
    build: Callable[[], Any]
    include: Any = ()
    inputs: Callable[[], Any] | None = None
    policy: str = "float32"
    no_xla: str = ""
    no_file: str = ""

    @property
    def case(self) -> Case:
        reasons = [f"{what}: {why}" for what, why in (("not with jit_compile", self.no_xla),
                                                      ("no .keras file", self.no_file)) if why]
        return Case(self.title, lambda: _in_policy(self, ours), lambda: _in_policy(self, stock),
                    "; ".join(reasons))


def _in_policy(model: Model, run: Callable[[Model], None]) -> None:
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(model.policy)
    try:
        run(model)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def ours(case: Model) -> None:
    """Three rounds with each of XLA and not; where XLA cannot, the dense model must fail too."""
    if case.no_xla:
        _must_fail(lambda: train(case.build(), case, jit=True))
    if case.no_file:
        _must_fail(lambda: _check_file(case.build(), case))
    for jit in (False,) if case.no_xla else (False, True):
        model = lth.prune_low_magnitude(case.build(), include=case.include)
        search = lth.LotteryTicketCallback(rounds=ROUNDS, epochs_per_round=1, check=True, verbose=0)
        train(model, case, jit, search)
        assert 0.4 < search.ticket.density < 0.65, search.ticket.density
        assert networks.strays(model) == 0
        if not case.no_file:
            check_wrapped(model, case)
        check_stripped(lth.strip_pruning, model, case)


def stock(case: Model) -> None:
    """tfmot's own recipe: to half the weights, then stripped, saved and loaded."""
    for jit in (False,) if case.no_xla else (False, True):
        schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.5, 0, 6, frequency=1)
        model = tfmot.sparsity.keras.prune_low_magnitude(case.build(), pruning_schedule=schedule)
        train(model, case, jit, tfmot.sparsity.keras.UpdatePruningStep())
        shares = [float(mask.mean()) for mask in networks.masks(model)]
        assert shares and max(shares) < 0.8, f"not pruned to half: kept {shares}"
        check_stripped(tfmot.sparsity.keras.strip_pruning, model, case)


def data(model: Any, case: Model) -> tuple[Any, Any]:
    """Eight examples, and targets of the shapes of their predictions."""
    x = case.inputs() if case.inputs else networks.inputs_for(model)
    draw = np.random.default_rng(2)
    y = tf.nest.map_structure(
        lambda out: draw.normal(size=out.shape).astype(np.float32), predict(model, x))
    return x, y


def predict(model: Any, x: Any) -> Any:
    return tf.nest.map_structure(lambda out: tf.cast(out, tf.float32).numpy(),
                                 model(x, training=False))


def train(model: Any, case: Model, jit: bool, *callbacks: Any) -> None:
    """Four epochs of two batches."""
    x, y = data(model, case)
    optimizer = keras.optimizers.Adam(1e-2, global_clipnorm=1.0)
    if case.policy == "mixed_float16":
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    model.compile(optimizer, "mse", jit_compile=jit)
    model.fit(x, y, batch_size=4, epochs=ROUNDS + 1, verbose=0, callbacks=list(callbacks))


def check_wrapped(model: Any, case: Model) -> None:
    """The wrapped model's .keras file has its masks, its predictions and its optimizer."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "wrapped.keras"
        model.save(path)
        loaded = keras.models.load_model(path, safe_mode=True)
    x, _ = data(model, case)
    _same(predict(loaded, x), predict(model, x), "loaded, wrapped, from its .keras file")
    assert networks.strays(loaded) == 0
    for one, other in ((networks.masks(loaded), networks.masks(model)),
                       (loaded.optimizer.variables, model.optimizer.variables)):
        for first, second in zip(one, other, strict=True):
            assert np.array_equal(first, second), "masks or optimizer differ in the .keras file"


def check_stripped(strip: Callable[[Any], Any], model: Any, case: Model) -> None:
    """Predictions are those of the wrapped model, and of the files loaded."""
    x, _ = data(model, case)
    before = predict(model, x)
    plain = strip(model)
    _same(predict(plain, x), before, "stripped")
    assert not [layer for layer in plain._flatten_layers() if hasattr(layer, "pruning_vars")]
    with tempfile.TemporaryDirectory() as folder:
        weights = str(pathlib.Path(folder) / "plain.weights.h5")
        plain.save_weights(weights)
        fresh = case.build()
        fresh.load_weights(weights)
        _same(predict(fresh, x), before, "built anew with its .weights.h5")
    if not case.no_file:
        _check_file(plain, case)


def _check_file(model: Any, case: Model) -> None:
    x, _ = data(model, case)
    before = predict(model, x)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path, compile=False, safe_mode=True)
        _same(predict(loaded, x), before, "loaded from its .keras file")


def _same(one: Any, other: Any, when: str) -> None:
    for first, second in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        assert np.array_equal(first, second), f"predictions differ once the model is {when}"


def _must_fail(attempt: Callable[[], None]) -> None:
    try:
        attempt()
    except Exception:
        return
    raise AssertionError("A limit is stated that a dense model does not have.")


# Models of a few weights.

def around(layer: Any, shape: tuple[int, ...], *before: Any) -> Callable[[], Any]:
    """A Sequential model of one layer, given by a function, and a head."""
    def build() -> Any:
        inside = [make() for make in (*before, layer)]
        return keras.Sequential([layers.Input(shape), *inside, layers.Flatten(), layers.Dense(2)])
    return build


def many() -> Any:
    left, right = layers.Input((4,), name="left"), layers.Input((3,), name="right")
    hidden = layers.concatenate([layers.Dense(5)(left), layers.Dense(5)(right)])
    return keras.Model({"left": left, "right": right},
                       {"a": layers.Dense(2, name="a")(hidden),
                        "b": layers.Dense(3, name="b")(hidden)})


def many_inputs() -> Any:
    draw = np.random.default_rng(3)
    return {"left": draw.normal(size=(8, 4)).astype(np.float32),
            "right": draw.normal(size=(8, 3)).astype(np.float32)}


def attention() -> Any:
    inputs = layers.Input((5, 4))
    seen = layers.MultiHeadAttention(2, 3)(inputs, inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(seen)))


def words(*inside: Callable[[], Any], mask: bool = True) -> Callable[[], Any]:
    def build() -> Any:
        return keras.Sequential([layers.Input((5,), dtype="int32"),
                                 layers.Embedding(7, 6, mask_zero=mask),
                                 *(make() for make in inside), layers.Flatten(), layers.Dense(2)])
    return build


def called(kind: Callable[[], Any], inputs: Callable[[], Any]) -> Callable[[], Any]:
    """A subclassed model, built by its first call."""
    def build() -> Any:
        model = kind()
        model(inputs())
        return model
    return build


def x() -> Any:
    return networks.X[:8]


def word_numbers() -> Any:
    return np.arange(40).reshape(8, 5) % 7


def sparse_inputs() -> Any:
    return tf.sparse.from_dense(np.where(x() > 0, x(), 0))


def sparse() -> Any:
    inputs = layers.Input((6,), sparse=True)
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(5)(inputs)))


def ragged_inputs() -> Any:
    return tf.RaggedTensor.from_row_lengths(np.arange(24) % 7, [3, 1, 4, 2, 5, 3, 2, 4])


def ragged() -> Any:
    inputs = layers.Input((None,), dtype="int64", ragged=True)
    return keras.Model(inputs, layers.Dense(2)(layers.LSTM(4)(layers.Embedding(7, 6)(inputs))))


def normalization() -> Any:
    layer = layers.Normalization()
    layer.adapt(networks.X)
    return keras.Sequential([layers.Input((6,)), layers.Rescaling(0.5, 0.1), layer,
                             layers.Dense(5), layers.Dense(2)])


def flipped() -> Any:
    return keras.Sequential([layers.Input((6, 6, 2)), layers.RandomFlip(seed=1),
                             layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2)])


def constrained() -> Any:
    return keras.Sequential([
        layers.Input((6,)),
        layers.Dense(5, kernel_constraint="max_norm", kernel_regularizer="l1_l2"),
        layers.Dense(4, kernel_constraint="non_neg", activity_regularizer="l2"), layers.Dense(2)])


def frozen_nested() -> Any:
    inner = keras.Sequential([layers.Input((6,)), layers.Dense(5)])
    inner.trainable = False
    return keras.Sequential([layers.Input((6,)), inner, layers.Dense(2)])


def float32_head() -> Any:
    return keras.Sequential([layers.Input((6,)), layers.Dense(8, "relu"),
                             layers.BatchNormalization(), layers.Dense(6),
                             layers.Dense(2, dtype="float32")])


def subclassed_in_functional() -> Any:
    inputs = layers.Input((6,))
    return keras.Model(inputs, layers.Dense(2)(subclassed.Inner()(inputs)))


def _dense() -> Any:
    return layers.Dense(6)


MODELS = {
    "sequential": Model("Sequential", networks.mlp),
    "functional": Model("functional, with branches", networks.functional),
    "many": Model("functional, several inputs and outputs, in dicts", many, inputs=many_inputs),
    "nested": Model("nested two deep", networks.nested),
    "shared": Model("shared layer", networks.shared),
    "shared_model": Model("shared nested model", networks.shared_model),
    "tied": Model("weight of two layers (a decoder with the encoder's kernel)", subclassed.tied,
                  no_file="Keras loads the two layers with a weight each"),
    "tied_time": Model("layer used alone and in TimeDistributed", subclassed.in_time_and_alone,
                       no_file="Keras gives the layer another's weights"),
    "tied_by_hand": Model("subclassed, output tied to its Embedding by hand",
                          called(subclassed.TiedByHand, word_numbers), "Embedding", word_numbers),
    "subclassed": Model("subclassed: layers in attributes, lists, tuples, dicts, models",
                        called(subclassed.Everywhere, x), inputs=x),
    "own_step": Model("subclassed, own train_step", called(subclassed.OwnStep, x), inputs=x),
    "subclassed_in_functional": Model("subclassed within functional", subclassed_in_functional),
    "arguments": Model("functional of a class of its own, with arguments and a train_step",
                       lambda: subclassed.Arguments(5)),
    "custom": Model("user's layers: weights of rank 2 and more under any name, in lists and dicts",
                    networks.custom),
    "own_dense": Model("subclass of Dense", around(lambda: networks.OwnDense(5), (6,))),
    "attention": Model("MultiHeadAttention", attention),
    "einsum": Model("EinsumDense", around(
        lambda: layers.EinsumDense("abc,cd->abd", output_shape=(None, 3), bias_axes="d"), (5, 4))),
    "embedding": Model("Embedding, on by include", words(_dense), "Embedding"),
    "embedding_off": Model("Embedding, off by default", words(_dense)),
    "lstm": Model("LSTM", words(lambda: layers.LSTM(4))),
    "gru": Model("GRU", words(lambda: layers.GRU(4))),
    "simple_rnn": Model("SimpleRNN, stacked cells", words(
        lambda: layers.RNN([layers.SimpleRNNCell(4), layers.GRUCell(3)]))),
    "bidirectional": Model("Bidirectional", words(lambda: layers.Bidirectional(layers.LSTM(3)))),
    "time_distributed": Model("TimeDistributed", around(
        lambda: layers.TimeDistributed(layers.Dense(3)), (4, 6))),
    "conv_lstm": Model("ConvLSTM2D", around(lambda: layers.ConvLSTM2D(2, 2), (3, 4, 4, 2))),
    "conv1d": Model("Conv1D", around(lambda: layers.Conv1D(3, 2), (6, 4))),
    "conv2d": Model("Conv2D", around(lambda: layers.Conv2D(3, 2), (5, 5, 2))),
    "conv3d": Model("Conv3D", around(lambda: layers.Conv3D(3, 2), (4, 4, 4, 2))),
    "conv1d_transpose": Model("Conv1DTranspose", around(
        lambda: layers.Conv1DTranspose(3, 2), (5, 4))),
    "conv2d_transpose": Model("Conv2DTranspose", around(
        lambda: layers.Conv2DTranspose(3, 2), (4, 4, 2))),
    "conv3d_transpose": Model("Conv3DTranspose", around(
        lambda: layers.Conv3DTranspose(2, 2), (3, 3, 3, 2))),
    "depthwise1d": Model("DepthwiseConv1D", around(lambda: layers.DepthwiseConv1D(2), (5, 3))),
    "depthwise": Model("DepthwiseConv2D", around(lambda: layers.DepthwiseConv2D(2), (5, 5, 3))),
    "separable1d": Model("SeparableConv1D", around(lambda: layers.SeparableConv1D(4, 2), (5, 3))),
    "separable": Model("SeparableConv2D", around(lambda: layers.SeparableConv2D(4, 2), (5, 5, 3))),
    "grouped": Model("grouped Conv2D", around(
        lambda: layers.Conv2D(4, 2, groups=2), (5, 5, 4))),
    "locally_connected": Model("LocallyConnected1D", around(
        lambda: layers.LocallyConnected1D(3, 2), (5, 3))),
    "batch_norm": Model("BatchNormalization", around(layers.BatchNormalization, (6,), _dense)),
    "layer_norm": Model("LayerNormalization", around(layers.LayerNormalization, (6,), _dense)),
    "group_norm": Model("GroupNormalization", around(
        lambda: layers.GroupNormalization(2), (6,), _dense)),
    "preprocessing": Model("Rescaling and Normalization", normalization),
    "random_flip": Model("RandomFlip", flipped),
    "prelu": Model("PReLU", around(layers.PReLU, (6,), _dense)),
    "dropout": Model("Dropout and GaussianNoise", around(
        lambda: layers.Dropout(0.3), (6,), _dense, lambda: layers.GaussianNoise(0.1))),
    "frozen": Model("frozen layer, left dense", networks.frozen),
    "frozen_nested": Model("frozen nested model, left dense", frozen_nested),
    "frozen_asked": Model("frozen layer, pruned on include", networks.frozen, "still"),
    "constrained": Model("kernel constraints and regularizers", constrained),
    "float16": Model("mixed_float16, loss scaling, float32 head", float32_head,
                     policy="mixed_float16"),
    "bfloat16": Model("mixed_bfloat16, float32 head", float32_head, policy="mixed_bfloat16"),
    "sparse": Model("sparse inputs", sparse, inputs=sparse_inputs,
                    no_xla="XLA has no product with a sparse matrix; a dense model fails too"),
    "ragged": Model("ragged inputs, Embedding and LSTM", ragged, inputs=ragged_inputs,
                    no_xla="XLA has no ragged tensors; a dense model fails too"),
}

# Every network of tf_keras.applications: one step.

SIDES = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}
APPLICATIONS = sorted(
    name for name, make in vars(keras.applications).items()
    if callable(make) and not name.startswith("_"))


def application(name: str) -> Any:
    """A network without trained weights, for ten classes, at the smallest size that it takes."""
    side = SIDES.get(name, 32)
    return getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=10,
                                             classifier_activation=None)


def one_step(name: str, wrap: Callable[[Any], Any]) -> Any:
    keras.utils.set_random_seed(0)
    model = wrap(application(name))
    shape = (2, *model.input_shape[1:])
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    return model, np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


def application_ours(name: str) -> None:
    """Half the weights go; then a step, after which they are exactly zero."""
    model, images = one_step(name, lth.prune_low_magnitude)
    networks.draw_masks(model)
    before = [weight.numpy() for weight, _ in networks.pruning_vars(model)]
    model.train_on_batch(images, np.array([1, 2]))
    assert networks.strays(model) == 0
    assert any((weight.numpy() != then).any() for (weight, _), then
               in zip(networks.pruning_vars(model), before, strict=True))


def application_stock(name: str) -> None:
    """The same with tfmot's wrapper, whose weights are masked in the step."""
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.5, 0, 6, frequency=1)
    model, images = one_step(name, lambda model: tfmot.sparsity.keras.prune_low_magnitude(
        model, pruning_schedule=schedule))
    update = tfmot.sparsity.keras.UpdatePruningStep()
    update.set_model(model)
    update.on_train_begin()
    update.on_train_batch_begin(0)
    model.train_on_batch(images, np.array([1, 2]))
    assert networks.masks(model)


def _application_case(name: str) -> Case:
    return Case(f"applications.{name}", lambda: application_ours(name),
                lambda: application_stock(name))


CASES = {**{name: model.case for name, model in MODELS.items()},
         **{f"applications.{name}": _application_case(name) for name in APPLICATIONS}}
