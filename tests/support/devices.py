"""A search in `fit` under a distribution strategy, in processes of its own.

Two logical CPUs can only be made, and the workers of TF_CONFIG only be met, before TensorFlow is
used for anything else.  The optimizer "stock" stands for tfmot's own pruning, "subclassed" for a
model of that kind.
"""

import json
import os
import socket

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import networks
import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from networks import BATCH, X, Y
from processes import finish, started

import lth_keras as lth
from lth_keras.keras2.masking.weight_names import named_weights


def two_devices():
    """MirroredStrategy on two logical CPUs; before TensorFlow is used for anything else."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


STRATEGIES = {
    "mirrored": two_devices,
    "workers": tf.distribute.MultiWorkerMirroredStrategy,
}
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.5),
    "average": lambda: keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=0.01, use_ema=True,
                                            ema_momentum=0.5),
    "scaled": lambda: keras.mixed_precision.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    "legacy": lambda: keras.optimizers.legacy.SGD(0.05, momentum=0.9),
}
SUBCLASSED = "subclassed"  # In place of an optimizer: Adam on a subclassed model.


# A bias would have a gradient of zero before the normalisation, whose rounding Adam would magnify.

def sequential():
    layers = keras.layers
    return keras.Sequential([
        layers.Input((6,)), layers.Dense(8, use_bias=False),
        layers.BatchNormalization(synchronized=True), layers.ReLU(), layers.Dense(2)])


class Subclassed(keras.Model):
    """The same network, whose layers lie in an attribute and in a list."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Dense(8, use_bias=False)
        self.rest = [keras.layers.BatchNormalization(synchronized=True), keras.layers.ReLU(),
                     keras.layers.Dense(2)]

    def call(self, inputs, training=None):
        normal, relu, last = self.rest
        return last(relu(normal(self.first(inputs), training=training)))


def built_subclassed():
    model = Subclassed()
    model.build((None, 6))
    return model


def stock(strategy):
    """The masks that tfmot's own pruning ends with, and the trained weights, by name."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = tfmot.sparsity.keras.prune_low_magnitude(
            networks.mlp(), pruning_schedule=tfmot.sparsity.keras.PolynomialDecay(
                0.0, 0.5, 0, 6, frequency=1))
        model.compile(keras.optimizers.SGD(0.05), "mse")
    model.fit(_data(), epochs=4, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()], verbose=0)
    assert all(mask.mean() == 0.5 for mask in networks.masks(model))
    return {f"mask/{index}": mask for index, mask in enumerate(networks.masks(model))}


def _data():
    # The order of an epoch's batches is the same; a replica takes a half of each.
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return data.with_options(options)


def search(strategy, optimizer):
    """What a search finds: masks, theta_k, the trained weights and metrics, by name."""
    if optimizer == "stock":
        return stock(strategy)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = lth.prune_low_magnitude(
            built_subclassed() if optimizer == SUBCLASSED else sequential())
        model.compile(OPTIMIZERS.get(optimizer, OPTIMIZERS["adam"])(), "mse", metrics=["mae"])
    lottery = networks.lottery(epochs_per_round=3, fraction=0.3, rewind_step=2)
    data = _data()
    model.fit(data, validation_data=data, epochs=lottery.epochs, callbacks=[lottery], verbose=0)
    assert networks.strays(model) == 0
    found = {f"mask/{ticket.level}/{name}": mask for ticket in lottery.tickets
             for name, mask in ticket.masks.items()}
    found |= {f"theta/{name}": value for name, value in lottery.ticket.weights.items()}
    found |= {f"metric/{name}": lottery.results[name].to_numpy()
              for name in ("loss", "mae", "val_loss", "steps", "density")}
    return found | {f"trained/{name}": variable.numpy()
                    for name, variable in named_weights(model).items()}


LIMIT = 300  # Seconds; a process takes some ten of them.


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def found_by(strategy, optimizer, folder):
    """What each process of a strategy has found."""
    clusters = [None]
    if strategy == "workers":
        workers = [f"localhost:{port}" for port in free_ports(2)]
        clusters = [json.dumps({"cluster": {"worker": workers},
                                "task": {"type": "worker", "index": index}}) for index in (0, 1)]
    paths = [folder / f"{strategy}{index}.npz" for index in range(len(clusters))]
    finish([started(leave, strategy, optimizer, path, cluster)
            for path, cluster in zip(paths, clusters, strict=True)], LIMIT)
    return [np.load(path) for path in paths]


def leave(strategy, optimizer, path, cluster):
    """A process: leaves in a file what its search finds; meets the others of a cluster."""
    if cluster:
        os.environ["TF_CONFIG"] = cluster
    strategy = STRATEGIES[strategy]()
    assert strategy.num_replicas_in_sync == 2
    np.savez(path, **search(strategy, optimizer))


def compare(strategy, optimizer, folder):
    """What the processes of a strategy find is what one device finds."""
    alone = search(tf.distribute.get_strategy(), optimizer)
    together = found_by(strategy, optimizer, folder)
    assert len(together) == (2 if strategy == "workers" else 1)
    for found in together:
        assert set(found) == set(alone)
        for name, value in alone.items():
            if name.startswith("mask/"):
                np.testing.assert_array_equal(found[name], value, name)
            else:
                np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    for name in together[0]:  # Every process has the same bits.
        assert all((found[name] == together[0][name]).all() for found in together[1:])
