"""What layers draw from: every generator once, in the order of the layers, and who has none."""

import pytest
import tensorflow as tf
import tf_keras as keras
from tf_keras.src.backend import RandomGenerator

import lth_keras as lth
from lth_keras.keras2 import random_generators

layers = keras.layers
KINDS = ("stateful", "stateless", "legacy_stateful")


def drops(kind, rate=0.5, seed=7):
    """A layer named after its kind, that draws so."""
    layer = layers.Dropout(rate, name=f"{kind}_{rate}")
    layer._random_generator = RandomGenerator(seed, rng_type=kind)
    return layer


def model(*more):
    return keras.Sequential([layers.Input((4,)), layers.Dense(3), *more, layers.Dense(2)])


def test_generators_come_once_each_in_the_order_of_the_layers():
    first, second = drops("stateful", 0.5, 1), drops("stateful", 0.25, 2)
    second.own = tf.random.Generator.from_seed(3)
    second.again = second.own
    shared = drops("stateful", 0.125)
    shared._random_generator = first._random_generator
    found = random_generators.generators(lth.prune_low_magnitude(model(first, second, shared)))
    assert [*map(id, found)] == [id(first._random_generator._generator),
                                 id(second._random_generator._generator), id(second.own)]


@pytest.mark.parametrize("kind", KINDS)
def test_layers_without_a_generator_are_named_and_those_that_draw_are_not_kept(kind):
    made = model(drops(kind), drops(kind, 0.0))
    names = [f"{kind}_0.5", f"{kind}_0.0"]
    assert len(random_generators.generators(made)) == 2 * (kind == "stateful")
    assert random_generators.without_generator(made) == names * (kind != "stateful")
    # One without a state draws the same again; one of no strength draws nothing.
    assert random_generators.unkept(made) == names[:1] * (kind == "legacy_stateful")
