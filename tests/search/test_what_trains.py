"""What trains the model of a search: one compilation of it, and all of its prunable weights."""

import warnings

import either
import pytest
from either import compiled, fit, keras_of, PACKAGES, search

import lth_keras as lth
from lth_keras.errors import LotteryError

LOSS = "sparse_categorical_crossentropy"


@PACKAGES
def test_a_loop_that_compiles_its_model_again_is_refused_before_the_first_pruning(package):
    optimizers = keras_of(package).optimizers
    model = compiled(package, optimizer=optimizers.SGD(0.1))
    rounds = lth.Search(model, fraction=0.5)
    model.compile(optimizers.SGD(0.001), LOSS)  # The same shapes.
    model.fit(either.X, either.Y, verbose=0)
    with pytest.raises(LotteryError, match="must stay as it was compiled.*learning_rate.assign"):
        rounds.prune_and_rewind()
    assert rounds.level == 0 and rounds.density == 1
    rounds = lth.Search(model, fraction=0.5)
    model.fit(either.X, either.Y, verbose=0)
    rounds.prune_and_rewind()
    assert float(model.optimizer.learning_rate) == pytest.approx(0.001)


def with_a_teacher(package, **options):
    """A network beside another one, which is called and has no part in the loss."""
    keras = keras_of(package)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    teacher = keras.layers.Dense(2, name="teacher")
    student = keras.layers.Dense(2, name="student")
    outputs = keras.layers.Add()([student(inputs), keras.layers.Rescaling(0.0)(teacher(inputs))])
    model = keras.Model(inputs, keras.layers.Softmax()(outputs))
    if package == "tf_keras":
        model = lth.prune_low_magnitude(model, **options)
    else:
        teacher.trainable = options.get("trainable", True)
    model.compile("sgd", LOSS)
    return model


@PACKAGES
def test_prunable_weights_that_nothing_trains_are_named_once(package):
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        fit(with_a_teacher(package), search())
    said = [str(warning.message) for warning in raised if "Nothing has trained" in
            str(warning.message)]
    assert len(said) == 1
    assert "trained teacher/kernel at level 0" in said[0] and "student" not in said[0]


@PACKAGES
def test_a_teacher_that_is_left_out_is_not_named(package):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Nothing has trained")
        if package == "tf_keras":
            fit(with_a_teacher(package, exclude=["teacher"]), search())
            return
        fit(with_a_teacher(package), lottery := search(exclude=["teacher"]))
        assert [*lottery.ticket.masks] == ["student/kernel"]
        fit(with_a_teacher(package, trainable=False), lottery := search())
        assert [*lottery.ticket.masks] == ["student/kernel"]


def trained_by_two(package, first, second, held=False):
    """What a search says of a loop that trains one layer with each of two optimizers."""
    tf = pytest.importorskip("tensorflow")
    model = either.prunable(package)
    model.compile(first)
    if held:
        model.second = second
    rounds = lth.Search(model, fraction=0.5)
    weights = model.trainable_variables
    half = len(weights) // 2
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        for _ in range(2):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(either.X, training=True) - 0.3) ** 2)
            gradients = tape.gradient(loss, weights)
            for optimizer, part in ((model.optimizer, slice(half)), (second, slice(half, None))):
                optimizer.apply_gradients(zip(gradients[part], weights[part], strict=True))
        rounds.prune_and_rewind()
    return [str(warning.message) for warning in raised
            if "must know every optimizer" in str(warning.message)]


@PACKAGES
def test_a_second_optimizer_that_the_model_does_not_hold_is_warned_of(package):
    adam = keras_of(package).optimizers.Adam
    said, = trained_by_two(package, adam(0.01), adam(0.01))
    assert "out/kernel, which moved at level 0" in said and "hidden" not in said
    assert not trained_by_two(package, adam(0.01), adam(0.01), held=True)


@PACKAGES
def test_optimizers_without_slots_tell_nothing(package):
    optimizers = keras_of(package).optimizers
    assert not trained_by_two(package, optimizers.Adam(0.01), optimizers.SGD(0.1), held=True)
    # That of tf_keras has a slot for a momentum of 0, too.
    for options in ({}, {"use_ema": True}):
        said = trained_by_two(package, optimizers.SGD(0.1, **options), optimizers.Adam(0.01))
        assert bool(said) == (package == "tf_keras")


@PACKAGES
@pytest.mark.parametrize(("optimizer", "settings"), [
    ("AdamW", {"weight_decay": 0.1}), ("SGD", {"momentum": 0.9, "use_ema": True}),
    ("Adam", {"gradient_accumulation_steps": 2}), ("Adafactor", {}), ("Lion", {})])
@pytest.mark.parametrize("constraint", [None, "unit_norm"])
def test_what_moves_without_a_gradient_is_not_taken_for_another_optimizer(package, optimizer,
                                                                          settings, constraint):
    keras = keras_of(package)
    if package == "tf_keras" and "gradient_accumulation_steps" in settings:
        pytest.skip("of Keras 3 alone")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    idle = keras.layers.Dense(2, name="idle", kernel_constraint=constraint)
    outputs = keras.layers.Add()([keras.layers.Dense(2)(inputs),
                                  keras.layers.Rescaling(0.0)(idle(inputs))])
    model = keras.Model(inputs, keras.layers.Softmax()(outputs))
    model = lth.prune_low_magnitude(model) if package == "tf_keras" else model
    model.compile(getattr(keras.optimizers, optimizer)(**settings), LOSS)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*must know every optimizer")
        rounds = lth.Search(model, fraction=0.5)
        model.fit(either.X, either.Y, verbose=0)
        rounds.prune_and_rewind()
