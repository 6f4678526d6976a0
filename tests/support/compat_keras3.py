"""The catalogue of Keras 3 models: each searched for three rounds, saved and loaded.

A case runs on the backend that this process has; `CASES` is the same on all.
"""

import dataclasses
import pathlib
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import compat_filters
import hub3
import keras
import models3
import networks3
import numpy as np
from compat import BackendCase, BACKENDS
from models3 import around, attention, called, dense, draws, stateful, word_numbers, words

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras3.weights import TREE

layers = keras.layers
ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Model:
    """A model to try, and how.

    Attributes:
      title: what it is.
      build: makes it, built.
      include: what to prune besides the default.
      inputs: makes 8 examples; by default random ones of the shape that the model takes.
      policy: Keras' mixed precision policy.
      fails: backend -> why even the dense model cannot be trained there.
      labels: makes the targets of 8 examples for a model that brings its own loss; others are
        fitted to random numbers.
      needs: a package that it is of.
    """

    title: str
    build: Callable[[], Any]
    include: Any = ()
    inputs: Callable[[], Any] | None = None
    policy: str = "float32"
    fails: Mapping[str, str] = dataclasses.field(default_factory=dict)
    labels: Callable[[], Any] | None = None
    needs: str = ""

    @property
    def case(self) -> BackendCase:
        return BackendCase(self.title, lambda: _in_policy(self), self.fails, self.needs)


def _in_policy(case: Model) -> None:
    before = keras.config.dtype_policy()
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(case.policy)
    try:
        if keras.backend.backend() in case.fails:
            _dense_fails(case)
        else:
            searched(case)
    finally:
        keras.config.set_dtype_policy(before)


def searched(case: Model) -> None:
    """Three rounds, looked at in every batch; then the model's file."""
    model = case.build()
    x, y = data(model, case)
    own = {} if case.labels else {"loss": _losses(y)}
    model.compile(keras.optimizers.Adam(1e-2, global_clipnorm=1.0), **own)
    search = lth.LotteryTicketCallback(rounds=ROUNDS, epochs_per_round=1, check=True, verbose=0,
                                       include=case.include or None)
    seen, rewound = networks3.Violations(search), Rewound(search)
    model.fit(x, y, batch_size=4, epochs=search.epochs, verbose=0, shuffle=False,
              callbacks=[search, seen, rewound])
    assert (seen.count, seen.batches) == (0, 2 * (ROUNDS + 1))
    assert rewound.levels == [*range(1, ROUNDS + 1)]
    assert 0.4 < search.ticket.density < 0.65, search.ticket.density
    # What no attribute leads to has a name of its own, and would stay dense unsaid.
    placed = {id(slot.variable) for slot in TREE.slots(model)}
    assert not [weight.path for weight in model.trainable_weights if id(weight) not in placed]
    check_file(model, x)


def _dense_fails(case: Model) -> None:
    model = case.build()
    x, y = data(model, case)
    model.compile("adam", _losses(y))
    try:
        model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    except Exception:
        return
    raise AssertionError("A limit is stated that a dense model does not have.")


class Rewound(keras.callbacks.Callback):
    """Compares all that a level begins with, bit for bit, with theta_0 and the masks."""

    def __init__(self, search: Any):
        super().__init__()
        self.search, self.levels = search, []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        running = self.search._fit_search
        if running.round.steps or not running.round.level:
            return
        network, theta, masks = running.search.network, running.search.theta, running.search.masks
        for name, value in network.weights().items():
            kept = masks[name] != 0 if name in masks else True
            assert np.array_equal(value, np.where(kept, theta.weights[name], 0)), name
        now = network.capture(rewinds=False).optimizer
        for one, other in zip(now, theta.optimizer, strict=True):
            assert np.array_equal(one, other), "the optimizer or a state is not rewound"
        self.levels.append(running.round.level)


def data(model: Any, case: Model) -> tuple[Any, Any]:
    """Eight examples, and targets of the shapes of their predictions."""
    x = case.inputs() if case.inputs else draws(8, *model.input_shape[1:])()
    if case.labels:
        return x, case.labels()
    rng = np.random.default_rng(2)
    return x, keras.tree.map_structure(
        lambda out: rng.normal(size=(8, *out.shape[1:])).astype(np.float32), predict(model, x))


def _losses(y: Any) -> Any:
    return dict.fromkeys(y, "mse") if isinstance(y, dict) else "mse"


def predict(model: Any, x: Any) -> Any:
    """Predictions of four examples, of states that are zero."""
    for layer in model._flatten_layers():
        if isinstance(layer, layers.RNN) and layer.stateful:
            layer.reset_state()
    four = keras.tree.map_structure(lambda array: array[:4], x)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(four, training=False))


def check_file(model: Any, x: Any) -> None:
    """The .keras file knows nothing of this package, and has the same predictions."""
    before = predict(model, x)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        with zipfile.ZipFile(path) as files:
            assert b"lth_keras" not in b"".join(files.read(name) for name in files.namelist())
        loaded = keras.models.load_model(path, safe_mode=True)
    after = predict(loaded, x)
    for one, other in zip(keras.tree.flatten(before), keras.tree.flatten(after), strict=True):
        assert np.array_equal(one, other), "predictions differ once the model is loaded"


def refused(case: Model, message: str, limit: str, **options: Any) -> BackendCase:
    """A case that is refused before any training, with a clear message."""
    def run() -> None:
        model = case.build()
        model.compile("adam", "mse")
        before = model.get_weights()
        search = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, verbose=0, **options)
        x, y = data(model, case)
        try:
            model.fit(x, y, epochs=2, verbose=0, callbacks=[search])
        except LotteryError as error:
            assert message in str(error), error
            assert all(map(np.array_equal, before, model.get_weights()))
            return
        raise AssertionError("A limit is stated, and nothing is refused.")
    return BackendCase(case.title, run, dict.fromkeys(BACKENDS, limit), case.needs)


MODELS = {
    "sequential": Model("Sequential", models3.mlp),
    "functional": Model("functional, with branches", models3.branches),
    "many": Model("functional, several inputs and outputs, in dicts", models3.many,
                  inputs=models3.many_inputs),
    "nested": Model("nested two deep", models3.nested),
    "shared": Model("shared layer", models3.shared),
    "shared_model": Model("shared nested model", models3.shared_model),
    "tied_by_hand": Model("subclassed, output tied to its Embedding by hand",
                          called(models3.TiedByHand, word_numbers), "Embedding", word_numbers),
    "subclassed": Model("subclassed: layers in attributes, lists, tuples, dicts, models",
                        called(models3.Everywhere, draws(8, 6)), inputs=draws(8, 6)),
    "own_step": Model("subclassed, own train_step", called(models3.OwnStep, draws(8, 6)),
                      inputs=draws(8, 6)),
    "own_loss": Model("subclassed, own compute_loss", called(models3.OwnLoss, draws(8, 6)),
                      inputs=draws(8, 6)),
    "subclassed_in_functional": Model("subclassed within functional",
                                      models3.subclassed_in_functional),
    "arguments": Model("functional of a class of its own, with arguments and a compute_loss",
                       lambda: models3.Arguments(5)),
    "custom": Model("user's layers: weights of rank 2 and more under any name, in lists and dicts",
                    around(models3.Odd, (6,))),
    "own_dense": Model("subclass of Dense", around(lambda: models3.OwnDense(5), (6,))),
    "attention": Model("MultiHeadAttention", attention(lambda: layers.MultiHeadAttention(2, 3))),
    "grouped_attention": Model("GroupQueryAttention", attention(
        lambda: layers.GroupQueryAttention(3, 4, 2))),
    "einsum": Model("EinsumDense", around(
        lambda: layers.EinsumDense("abc,cd->abd", output_shape=(5, 3), bias_axes="d"), (5, 4))),
    "embedding": Model("Embedding, on by include", words(dense), "Embedding", word_numbers),
    "embedding_off": Model("Embedding, off by default", words(dense), (), word_numbers),
    "lstm": Model("LSTM", words(lambda: layers.LSTM(4)), (), word_numbers),
    "gru": Model("GRU", words(lambda: layers.GRU(4)), (), word_numbers),
    "simple_rnn": Model("SimpleRNN, stacked cells", words(
        lambda: layers.RNN([layers.SimpleRNNCell(4), layers.GRUCell(3)])), (), word_numbers),
    "bidirectional": Model("Bidirectional", words(
        lambda: layers.Bidirectional(layers.LSTM(3))), (), word_numbers),
    "time_distributed": Model("TimeDistributed", around(
        lambda: layers.TimeDistributed(layers.Dense(3)), (4, 6))),
    "conv_lstm": Model("ConvLSTM2D", around(lambda: layers.ConvLSTM2D(2, 2), (3, 4, 4, 2))),
    "stateful": Model("stateful LSTM and GRU, their states rewound", stateful(
        lambda: keras.Sequential([layers.LSTM(4, stateful=True, return_sequences=True),
                                  layers.GRU(3, stateful=True)])), inputs=draws(8, 5, 3),
        fails={"torch": "fails in Keras, a dense model too: it assigns the state of a layer that "
                        "torch still needs for the gradient"}),
    **{f"conv{rank}d": Model(f"Conv{rank}D", around(
        lambda rank=rank: getattr(layers, f"Conv{rank}D")(3, 2), (*(5,) * rank, 2)))
       for rank in (1, 2, 3)},
    **{f"conv{rank}d_transpose": Model(f"Conv{rank}DTranspose", around(
        lambda rank=rank: getattr(layers, f"Conv{rank}DTranspose")(3, 2), (*(3,) * rank, 2)))
       for rank in (1, 2, 3)},
    "depthwise1d": Model("DepthwiseConv1D", around(lambda: layers.DepthwiseConv1D(2), (5, 3))),
    "depthwise": Model("DepthwiseConv2D", around(lambda: layers.DepthwiseConv2D(2), (5, 5, 3))),
    "separable1d": Model("SeparableConv1D", around(lambda: layers.SeparableConv1D(4, 2), (5, 3))),
    "separable": Model("SeparableConv2D", around(lambda: layers.SeparableConv2D(4, 2), (5, 5, 3))),
    "grouped": Model("grouped Conv2D", around(lambda: layers.Conv2D(4, 2, groups=2), (5, 5, 4))),
    "batch_norm": Model("BatchNormalization", around(layers.BatchNormalization, (6,), dense)),
    "layer_norm": Model("LayerNormalization", around(layers.LayerNormalization, (6,), dense)),
    "group_norm": Model("GroupNormalization", around(
        lambda: layers.GroupNormalization(2), (6,), dense)),
    "rms_norm": Model("RMSNormalization and UnitNormalization", around(
        layers.RMSNormalization, (6,), dense, layers.UnitNormalization)),
    "spectral": Model("SpectralNormalization, left dense", around(
        lambda: layers.SpectralNormalization(layers.Dense(6)), (6,), dense)),
    "preprocessing": Model("Rescaling and Normalization", models3.adapted),
    "random_flip": Model("RandomFlip", models3.flipped),
    "prelu": Model("PReLU", around(layers.PReLU, (6,), dense)),
    "dropout": Model("Dropout and GaussianNoise", around(
        lambda: layers.Dropout(0.3), (6,), dense, lambda: layers.GaussianNoise(0.1))),
    "seeds": Model("a seed generator of the user's layer", around(models3.Drawing, (6,), dense)),
    "frozen": Model("frozen layer, left dense", models3.frozen),
    "frozen_nested": Model("frozen nested model, left dense", models3.frozen_nested),
    "frozen_asked": Model("frozen layer, pruned on include", models3.frozen, "still"),
    "constrained": Model("kernel constraints and regularizers", models3.constrained),
    "float16": Model("mixed_float16, loss scaling, float32 head", models3.float32_head,
                     policy="mixed_float16"),
    "bfloat16": Model("mixed_bfloat16, float32 head", models3.float32_head,
                      policy="mixed_bfloat16"),
    "float64": Model("float64", models3.mlp, policy="float64"),
    "counting": Model("a variable of the user's that training changes", around(
        models3.Counting, (6,), dense)),
    "lora": Model("layer with LoRA, left dense", models3.lora),
}

# Of keras_hub: the model, what it takes, and the labels of those that have a loss of their own.
_HUB = {
    "BertBackbone": (hub3.bert, hub3.segments, None),
    "BertTextClassifier": (hub3.bert_classifier, hub3.segments, hub3.classes),
    "GPT2CausalLM": (hub3.gpt2, hub3.tokens, hub3.next_words),
    "LlamaCausalLM": (hub3.llama, hub3.tokens, hub3.next_words),
    "GemmaCausalLM": (hub3.gemma, hub3.tokens, hub3.next_words),
    "MixtralBackbone": (hub3.mixtral, hub3.tokens, None),
    "T5Backbone": (hub3.t5, hub3.pairs, None),
    "WhisperBackbone": (hub3.whisper, hub3.sounds, None),
    "ViTImageClassifier": (hub3.vit_classifier, None, hub3.classes),
    "MiTBackbone": (hub3.segformer, None, None),
    "ResNetBackbone": (hub3.resnet, None, None),
}
HUB = {name: Model(f"keras_hub.models.{name}", build, inputs=inputs, labels=labels,
                   needs="keras_hub") for name, (build, inputs, labels) in _HUB.items()}


def application(name: str) -> Any:
    """A network without trained weights, for ten classes, at the smallest size that it takes."""
    side = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}.get(name, 32)
    return getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=10,
                                             classifier_activation=None)


def one_round(name: str) -> None:
    """One round of one step, and a step of the ticket: its zeros are exact."""
    keras.utils.set_random_seed(0)
    model = application(name)
    # Compiling takes longer than a step; on JAX each operation would be compiled for itself.
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), networks3.LOGITS,
                  run_eagerly=keras.backend.backend() != "jax")
    search = lth.LotteryTicketCallback(rounds=1, epochs_per_round=1, fraction=0.5, verbose=0)
    seen, rewound = networks3.Violations(search), Rewound(search)
    model.fit(draws(2, *model.input_shape[1:])(), np.array([1, 2]), epochs=2, verbose=0,
              callbacks=[search, seen, rewound])
    assert (seen.count, seen.batches, rewound.levels) == (0, 2, [1])
    assert search.ticket.density < 0.51


APPLICATIONS = sorted(name for name, make in vars(keras.applications).items()
                      if callable(make) and not name.startswith("_"))
CASES: Mapping[str, BackendCase] = {
    **{name: model.case for name, model in MODELS.items()},
    "lora_asked": refused(
        Model("layer with LoRA, asked for in include", models3.lora), "of a layer with LoRA",
        "refused: what the layer computes with is its kernel and a product, which has no zeros",
        include="dense"),
    "bfloat16_weights": refused(
        Model("weights of bfloat16", models3.bfloat16), "of a real number type of NumPy",
        "refused: NumPy has no such type, and so a ticket has not; mixed_bfloat16 works"),
    **{f"filters.{name}": BackendCase(f"whole filters: {title}", lambda name=name:
                                      compat_filters.works(keras, name))
       for name, title in compat_filters.TITLES.items()},
    **{f"hub.{name}": model.case for name, model in HUB.items()},
    "hub.lora": refused(
        Model("keras_hub.models.BertBackbone with LoRA", hub3.bert_with_lora, inputs=hub3.segments,
              needs="keras_hub"), "layer with weights that can be pruned",
        "refused: all kernels are frozen, and a product without zeros is added to each"),
    **{f"applications.{name}": BackendCase(f"applications.{name}", lambda name=name:
                                           one_round(name)) for name in APPLICATIONS},
}
