"""A search in `fit` of ordinary Keras 3 models, on the backend that KERAS_BACKEND names."""

import subprocess
import sys

import keras
import networks3 as networks
import numpy as np
import pytest
from networks3 import CLASSES, IMAGES

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras3 import optimizer_state
from lth_keras.keras3.model_masks import ModelMasks
from lth_keras.keras3.weights import named_weights


def values(model):
    return {name: keras.ops.convert_to_numpy(variable.value)
            for name, variable in named_weights(model).items()}


@pytest.mark.parametrize(("name", "optimizer"), [
    *((name, "AdamW") for name in networks.MODELS),
    *(("convolutional", optimizer) for optimizer in networks.OPTIMIZERS if optimizer != "AdamW")])
def test_pruned_weights_are_zero_after_every_batch(name, optimizer):
    model, x, y = networks.compiled(name, optimizer)
    search = networks.lottery()
    seen = networks.Violations(search)
    networks.fit(model, x, y, search, seen)
    assert (seen.count, seen.batches) == (0, 3 * 2 * networks.STEPS)
    assert search.results.density.round(1).tolist() == [1.0, 0.6, 0.4]
    final = values(model)
    for weight, mask in search.ticket.masks.items():
        assert not final[weight][mask == 0].any() and final[weight][mask != 0].all()


@pytest.mark.thorough
@pytest.mark.parametrize("name", [
    "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion", "Muon",
    "Nadam", "RMSprop", "SGD", "ScheduleFreeAdamW"])
def test_every_optimizer_of_keras_leaves_pruned_weights_at_zero(name):
    # Not Adafactor, whose second moment of a row that is pruned as a whole rounds to 0: it divides
    # 0 by it, and the search ends with a DivergedError.
    assert issubclass(getattr(keras.optimizers, name), keras.optimizers.Optimizer)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
                              keras.layers.Dense(8, "tanh"), keras.layers.Dense(10)])
    model.compile(getattr(keras.optimizers, name)(0.01), networks.LOGITS)
    search = networks.lottery()
    seen = networks.Violations(search)
    networks.fit(model, IMAGES, CLASSES, search, seen)
    assert (seen.count, seen.batches) == (0, 3 * 2 * networks.STEPS)


@pytest.mark.thorough
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model, x, y = networks.compiled("convolutional", "momentum")
    finally:
        keras.config.set_dtype_policy(before)
    search = networks.lottery()
    seen = networks.Violations(search)
    networks.fit(model, x, y, search, seen)
    assert seen.count == 0
    assert {value.dtype for value in search.ticket.weights.values()} == {np.dtype(np.float32)}


def test_a_rewound_level_is_a_fresh_training_of_its_ticket():
    model, x, y = networks.compiled("transformer")
    search = networks.lottery(rounds=1)
    networks.fit(model, x, y, search)
    fresh, _, _ = networks.compiled("transformer")
    search.ticket.apply(fresh)
    fresh.fit(x, y, batch_size=networks.BATCH, epochs=2, shuffle=False, verbose=0)
    found = values(model)
    for name, value in values(fresh).items():
        np.testing.assert_array_equal(found[name], value, name)


def test_survivors_begin_a_level_with_their_initial_values_and_fresh_slots():
    model, x, y = networks.compiled("convolutional")
    initial = values(model)
    seen = []

    class First(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if search._fit_search.round.steps == 0 and search._fit_search.round.level:
                network = search._fit_search.search.network
                seen.append((network.weights(), network.capture(rewinds=False)))
    search = networks.lottery()
    networks.fit(model, x, y, search, First())
    assert len(seen) == 2
    for level, (weights, state) in enumerate(seen, 1):
        for name, value in initial.items():
            mask = search.tickets[level].masks.get(name, 1)
            np.testing.assert_array_equal(weights[name], value * mask, name)
        # Iterations and slots are at their beginning; the learning rate stays.
        assert not any(value.any() for value in state.optimizer if value.ndim)


def test_nothing_is_compiled_again_when_masks_change():
    traces = []

    class Counting(keras.layers.Layer):
        def call(self, inputs):
            traces.append(None)
            return inputs
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), Counting(),
                              keras.layers.Dense(10)])
    model.compile("adam", networks.LOGITS)
    model.fit(IMAGES, CLASSES, batch_size=networks.BATCH, verbose=0, epochs=1)
    dense = len(traces)
    search = networks.lottery(check=False)
    networks.fit(model, IMAGES, CLASSES, search)
    one_more = len(traces) - dense
    search = networks.lottery(check=False, rounds=4)
    networks.fit(model, IMAGES, CLASSES, search)
    eager = keras.backend.backend() == "torch"  # Nothing is compiled there.
    assert eager or (len(traces) - dense - one_more <= 1 and one_more <= 2)


PLAIN = """
import sys
import keras, numpy as np
model = keras.models.load_model(sys.argv[1] + "/model.keras")
data = np.load(sys.argv[1] + "/data.npz")
assert np.array_equal(model.predict(data["x"], verbose=0), data["predicted"])
zeros = [np.asarray(keras.ops.convert_to_numpy(w)) == 0 for w in model.trainable_weights]
model.fit(data["x"], data["y"], verbose=0)
assert "lth_keras" not in sys.modules
"""


@pytest.mark.thorough
def test_the_saved_model_is_a_plain_one_and_loads_without_the_package(tmp_path):
    model, x, y = networks.compiled("convolutional")
    networks.fit(model, x, y, networks.lottery(rounds=1))
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=x[:8], y=y[:8],
             predicted=model.predict(x[:8], verbose=0))
    subprocess.run([sys.executable, "-c", PLAIN, str(tmp_path)], check=True)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.optimizer.variables) == len(optimizer_state.variables(
        model, ModelMasks.of(model).variables))


def test_a_loaded_sparse_model_keeps_its_zeros_if_asked(tmp_path):
    model, x, y = networks.compiled("convolutional")
    search = networks.lottery(rounds=1)
    networks.fit(model, x, y, search)
    model.save(tmp_path / "model.keras")
    for keeps in (False, True):
        loaded = keras.models.load_model(tmp_path / "model.keras")
        if keeps:
            assert lth.keep_sparse(loaded) is loaded
        loaded.fit(x, y, batch_size=networks.BATCH, verbose=0)
        zeros = [int((values(loaded)[name] == 0).sum()) for name in search.ticket.masks]
        wanted = [int((mask == 0).sum()) for mask in search.ticket.masks.values()]
        assert (zeros == wanted) is keeps


def test_a_model_that_is_compiled_again_stays_sparse():
    model, x, y = networks.compiled("convolutional")
    search = networks.lottery(rounds=1)
    networks.fit(model, x, y, search)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), networks.LOGITS)
    model.fit(x, y, batch_size=networks.BATCH, verbose=0)
    for name, mask in search.ticket.masks.items():
        assert not values(model)[name][mask == 0].any()


@pytest.mark.thorough
def test_include_exclude_and_structure_are_said_to_the_callback():
    model, x, y = networks.compiled("recurrent")
    search = networks.lottery(structure="2:4", rounds=1)
    networks.fit(model, x, y, search)
    for name, mask in search.ticket.masks.items():  # Of every four inputs two are kept.
        whole = mask[:len(mask) // 4 * 4].reshape(-1, 4, mask.shape[1])
        assert (whole.sum(axis=1) == 2).all(), name
    model, x, y = networks.compiled("recurrent")
    search = networks.lottery(include="Embedding", exclude=[keras.layers.Dense])
    networks.fit(model, x, y, search)
    assert {name.split("/")[0] for name in search.ticket.masks} == {"embedding", "bidirectional"}
    with pytest.raises(LotteryError, match="must name layers of the model. Received: .'nowhere'"):
        networks.fit(*networks.compiled("recurrent"), networks.lottery(exclude="nowhere"))


def test_a_tf_keras_model_is_told_so_when_it_is_wrapped():
    pytest.importorskip("tf_keras")
    import networks as networks2
    model = networks2.compiled(lth.prune_low_magnitude(networks2.mlp()))
    with pytest.raises(LotteryError, match=r"lth.prune_low_magnitude\(model, exclude=...\)"):
        model.fit(networks2.X, networks2.Y, verbose=0, callbacks=[networks.lottery(exclude="a")])


def test_two_optimizers_of_a_models_own_are_masked_and_rewound():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("its train_step is written for TensorFlow")
    import tensorflow as tf

    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = keras.layers.Dense(8), keras.layers.Dense(10)
            self.optimizers = {"one": keras.optimizers.Adam(0.01),
                               "two": [keras.optimizers.SGD(0.1, momentum=0.9)]}

        def call(self, inputs):
            return self.two(self.one(keras.ops.reshape(inputs, (-1, 64))))

        def train_step(self, data):
            x, y = data
            with tf.GradientTape(persistent=True) as tape:
                loss = self.compute_loss(x, y, self(x))
            for layer, optimizer in ((self.one, self.optimizers["one"]),
                                     (self.two, self.optimizers["two"][0])):
                weights = layer.trainable_weights
                optimizer.apply(tape.gradient(loss, weights), weights)
            return {"loss": loss}
    keras.utils.set_random_seed(0)
    model = Two()
    model(IMAGES[:1])
    model.compile("sgd", networks.LOGITS)
    search = networks.lottery()
    seen = networks.Violations(search)
    networks.fit(model, IMAGES, CLASSES, search, seen)
    assert seen.count == 0 and search.ticket.density < 0.4
    assert search.restored[0].slots == 12 and search.restored[0].iterations == 0


def test_what_trains_past_the_masks_is_refused_at_the_end_of_its_round():
    model, x, y = networks.compiled("convolutional")

    class Regrows(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 3:
                kernel = self.model.layers[-1].kernel
                kernel.assign(np.ones(kernel.shape))
    with pytest.raises(LotteryError, match="pruned weights that are not zero in dense_1/kernel"):
        networks.fit(model, x, y, networks.lottery(check=False), Regrows())


def test_early_stopping_ends_a_round_and_not_the_search():
    model, x, y = networks.compiled("convolutional")
    search = networks.lottery(epochs_per_round=4, round_callbacks=[
        keras.callbacks.EarlyStopping("loss", patience=0, min_delta=100)])
    networks.fit(model, x, y, search)
    assert search.results.epochs.tolist() == [2, 2, 2]


@pytest.mark.thorough
@pytest.mark.parametrize(("beside", "within"), [(True, False), (False, True)])
def test_a_learning_rate_that_goes_on_from_level_to_level_is_warned_of(beside, within, recwarn):
    halve = [keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 * 0.5 ** epoch)]
    model, x, y = networks.compiled("convolutional")
    search = networks.lottery(round_callbacks=halve * within)
    networks.fit(model, x, y, search, *halve * beside)
    said = [str(item.message) for item in recwarn if "learning rate of" in str(item.message)]
    assert len(said) == beside
    if beside:
        assert "rate of 0.025 from step 0 of its round on, where level 0 had 0.1:" in said[0]


def test_the_report_names_the_backend_and_speaks_of_no_wrapping(tmp_path):
    model, x, y = networks.compiled("transformer")
    search = networks.lottery(rounds=1, workdir=tmp_path / "search")
    networks.fit(model, x, y, search, validation_data=(x[:16], y[:16]))
    page = search.report(tmp_path / "report").read_text()
    trained_with = page.partition("Trained with")[2][:200]
    assert keras.backend.backend() in trained_with and "keras 3." in trained_with
    assert "tf-keras" not in trained_with
    assert "wrap" not in page.partition("<body")[2].lower().replace("text-wrap", "")


@pytest.mark.parametrize("structure", [None, "filters"])
def test_a_round_ends_when_its_mask_has_settled(structure):
    model, x, y = networks.compiled("convolutional")
    model.optimizer.learning_rate = 1e-7
    bird = lth.EarlyBird(patience=2)
    search = networks.lottery(rounds=1, epochs_per_round=4, round_callbacks=[bird],
                              structure=structure)
    assert search.async_safe is False  # It is checked after every batch.
    assert networks.lottery(check=False, round_callbacks=[bird]).async_safe
    networks.fit(model, x, y, search)
    assert search.results.epochs.tolist() == [2, 4]
    row, = bird.history.to_dict("records")
    assert row["settled"] and row["distance"] <= 0.1 and (row["level"], row["epoch"]) == (0, 2)
