import re
import threading

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from lth_keras.keras2.masking import masked_weights
from lth_keras.keras2.masking.masked_weights import fixed_masks, masked, ZeroConstraint


@pytest.fixture
def mask():
    return tf.Variable([1.0, 0.0, 1.0])


def loop(masks):
    """A loop that masks a weight with each mask at every step."""
    def step(index, weight):
        for mask in masks:
            weight = masked(weight, mask)
        return index + 1, weight
    return tf.while_loop(lambda index, _: index < 2, step, (0, tf.ones(3)))[1]


def reads(function):
    """How often a step of the loop in a traced function reads a variable."""
    graph = function.get_concrete_function().graph.as_graph_def()
    return [sum(node.op == "ReadVariableOp" for node in body.node_def)
            for body in graph.library.function if re.search("while.*_body", body.signature.name)]


def test_a_pruned_weight_is_zero_whatever_it_was(mask):
    weight = tf.constant([-2.0, np.nan, -0.0])
    np.testing.assert_array_equal(masked(weight, mask), [-2, 0, 0])
    assert np.signbit(masked(-tf.ones(3), mask)).tolist() == [True, False, True]


def test_a_pruned_weight_has_no_gradient_and_is_read_as_it_is(mask):
    weight = tf.Variable([2.0, 3.0, 4.0])
    with tf.GradientTape() as tape:
        read = masked_weights.gradient_masked(tf.convert_to_tensor(weight), mask)
        loss = tf.reduce_sum(read ** 2)
    np.testing.assert_array_equal(read, [2, 3, 4])
    np.testing.assert_array_equal(tape.gradient(loss, weight), [4, 0, 8])


@pytest.mark.parametrize("fixed, expected", [(False, [1]), (True, [0])])
def test_a_fixed_mask_is_read_outside_the_loop(fixed, expected, mask):
    @tf.function
    def train():
        with fixed_masks([mask] if fixed else []):
            return loop([mask])
    assert reads(train) == expected
    np.testing.assert_array_equal(train(), [1, 0, 1])


def test_what_is_fixed_within_ends_before_what_is_fixed_around_it(mask):
    other = tf.Variable([0.0, 1.0, 1.0])

    @tf.function
    def train():
        with fixed_masks([mask, other]):
            with fixed_masks([mask]):
                inside = loop([mask, other])
            around = loop([mask, other])
        return inside, around, loop([mask])
    assert sorted(reads(train)) == [0, 0, 1]
    for result, expected in zip(train(), ([0, 0, 1], [0, 0, 1], [1, 0, 1]), strict=True):
        np.testing.assert_array_equal(result, expected)


def test_programs_that_are_traced_at_the_same_time_fix_masks_for_themselves(mask):
    # The first fixes, the second fixes and ends, and then the first traces its loop.
    turn, found, errors = [threading.Event() for _ in range(2)], {}, []

    def first():
        with fixed_masks([mask]):
            turn[0].set()
            assert turn[1].wait(60)
            return loop([mask])

    def second():
        assert turn[0].wait(60)
        with fixed_masks([mask]):
            result = loop([mask])
        turn[1].set()
        return result

    def trace(part):
        try:
            function = tf.function(part, autograph=False)
            found[part.__name__] = reads(function), function().numpy().tolist()
        except Exception as error:
            errors.append(error)
            for event in turn:
                event.set()
    threads = [threading.Thread(target=trace, args=(part,)) for part in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert found == dict.fromkeys(("first", "second"), ([0], [1.0, 0.0, 1.0]))


def test_a_replica_traced_in_a_thread_of_its_own_has_the_masks_that_are_fixed():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        mask = tf.Variable([1.0, 0.0, 1.0])

    @tf.function
    def train():
        with fixed_masks([mask]):
            return tf.while_loop(lambda index, _: index < 2, lambda index, weight: (
                index + 1, strategy.run(masked, (weight, mask))), (0, tf.ones(3)))[1]
    assert reads(train) == [0]


def test_what_runs_eagerly_follows_the_mask(mask):
    with fixed_masks([mask]):
        mask.assign([0.0, 0.0, 1.0])
        np.testing.assert_array_equal(masked(tf.ones(3), mask), [0, 0, 1])


def test_masks_are_no_longer_fixed_after_an_error(mask):
    @tf.function(autograph=False)
    def train():
        with fixed_masks([mask]):
            raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        train()
    assert not masked_weights._fixed


def test_the_constraint_holds_zero_after_a_step_that_used_the_mask(mask):
    weight = tf.Variable([1.0, 2.0, 3.0], constraint=keras.constraints.NonNeg())
    constraint = ZeroConstraint(weight, mask)
    assert weight.constraint is constraint
    np.testing.assert_array_equal(constraint(tf.constant([-1.0, 5.0, 6.0])), [0, 5, 6])
    constraint.use()
    np.testing.assert_array_equal(constraint(tf.constant([-1.0, 5.0, 6.0])), [0, 0, 6])

    @tf.function
    def another_program():
        return constraint(tf.constant([1.0, 5.0, 6.0]))
    np.testing.assert_array_equal(another_program(), [1, 5, 6])


def test_a_program_is_one_with_its_loops_and_branches(mask):
    constraint = ZeroConstraint(tf.Variable([1.0, 2.0, 3.0]), mask)

    @tf.function
    def train(take):
        def use():
            constraint.use()
            return 1
        tf.cond(take, use, lambda: 0)
        return constraint(tf.constant([4.0, 5.0, 6.0]))
    np.testing.assert_array_equal(train(tf.constant(True)), [4, 0, 6])


def test_a_constraint_that_takes_the_place_of_another_keeps_the_users(mask):
    own = keras.constraints.NonNeg()
    weight = tf.Variable([1.0, 2.0, 3.0], constraint=own)
    ZeroConstraint(weight, mask)
    again = ZeroConstraint(weight, tf.Variable([0.0, 1.0, 1.0]))
    again.use()
    np.testing.assert_array_equal(again(tf.constant([1.0, -5.0, 6.0])), [0, 0, 6])


def test_a_regularizer_gets_no_gradient_for_what_is_pruned():
    layer = keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.5))
    layer.build((None, 3))
    layer.kernel.assign([[2.0], [0.0], [4.0]])
    constraint = ZeroConstraint(layer.kernel, tf.Variable([[1.0], [0.0], [1.0]]))
    masked_weights.mask_penalties(layer, {id(layer.kernel): constraint})
    layer.kernel.assign([[2.0], [3.0], [4.0]])
    constraint.use()
    with tf.GradientTape() as tape:
        penalty = tf.add_n(layer.losses)
    assert float(penalty) == 0.5 * (4 + 9 + 16)
    np.testing.assert_array_equal(tape.gradient(penalty, layer.kernel), [[2], [0], [4]])


def test_a_loss_that_is_no_regularizers_stays(mask):
    layer = keras.layers.Dense(1)
    layer.build((None, 3))
    layer.add_loss(lambda: tf.constant(3.0))
    masked_weights.mask_penalties(layer, {id(layer.kernel): ZeroConstraint(layer.kernel, mask)})
    assert [float(loss) for loss in layer.losses] == [3]
