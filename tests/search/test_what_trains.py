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
