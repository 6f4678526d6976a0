"""Half of the multiply-adds: a MobileNet-like network with fewer filters, on a device.

Whole filters are pruned, so what remains is an ordinary smaller network, faster in every runtime:
`fit` searches it until half of the multiply-adds are left.  The ticket is compacted, trained beside
the dense network from the same initial weights, and both are exported to TF Lite.

    python examples/mobilenet_filters.py
    tfds build cifar10
    python examples/mobilenet_filters.py --dataset cifar10 --epochs 40
"""

import pathlib

import numpy as np
import pandas as pd
import tensorflow as tf
import tf_keras as keras
from absl import app, flags

import lth_keras as lth
from lth_keras.experiments.training import datasets

FLAGS = flags.FLAGS
flags.DEFINE_enum("dataset", "digits", ["digits", "cifar10"], "What to classify.")
flags.DEFINE_integer("epochs", 5, "Epochs of each training.", lower_bound=1)
flags.DEFINE_integer("examples", None, "How many training images to use (default: all).")
flags.DEFINE_integer("rounds", 6, "How many times filters are pruned at most.", lower_bound=1)
flags.DEFINE_float("macs", 0.5, "Share of the multiply-adds that may be left.")
flags.DEFINE_string("out", "deploy_mobilenet", "Folder for the files.")

BATCH = 64
COLUMNS = ["format", "macs", "parameters", "bytes", "latency_1_us", "accuracy"]
# Channels, stride and expansion of each inverted residual block (Sandler et al., CVPR 2018).
BLOCKS = ((24, 1, 4), (40, 2, 4), (40, 1, 4), (64, 2, 4), (64, 1, 4))


def images(dataset):
    """Training and test data as 32x32x3 images in [0, 1]; the digits are enlarged."""
    found = datasets.load(dataset)
    parts = []
    for pixels, labels in ((found.x_train, found.y_train), (found.x_test, found.y_test)):
        x = datasets.scaled(pixels)
        if x.ndim == 3:
            x = tf.image.resize(np.repeat(x[..., None], 3, axis=-1), (32, 32)).numpy()
        parts.append((x, labels))
    return parts


def convolution(flow, filters, size, stride, activation=True):
    flow = keras.layers.Conv2D(filters, size, stride, "same", use_bias=False)(flow)
    flow = keras.layers.BatchNormalization(momentum=0.9)(flow)
    return keras.layers.ReLU(6.0)(flow) if activation else flow


def inverted_residual(flow, filters, stride, expansion):
    before = flow
    flow = convolution(flow, expansion * flow.shape[-1], 1, 1)
    flow = keras.layers.DepthwiseConv2D(3, stride, "same", use_bias=False)(flow)
    flow = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization(momentum=0.9)(flow))
    flow = convolution(flow, filters, 1, 1, activation=False)
    return keras.layers.Add()([before, flow]) if before.shape == flow.shape else flow


def mobilenet():
    inputs = keras.layers.Input((32, 32, 3))
    flow = convolution(inputs, 24, 3, 2)
    for filters, stride, expansion in BLOCKS:
        flow = inverted_residual(flow, filters, stride, expansion)
    flow = keras.layers.GlobalAveragePooling2D()(convolution(flow, 192, 1, 1))
    return keras.Model(inputs, keras.layers.Dense(10, name="logits")(flow), name="mobilenet")


def compile_network(model, steps):
    rate = keras.optimizers.schedules.CosineDecay(4e-3, steps)
    model.compile(keras.optimizers.Adam(rate),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  metrics=["accuracy"])


def trained(ticket, x, y):
    """The network of a ticket without its pruned filters, trained from its initial weights."""
    model = lth.compact(ticket.apply(mobilenet())).model
    compile_network(model, FLAGS.epochs * -(-len(y) // BATCH))
    model.fit(x, y, batch_size=BATCH, epochs=FLAGS.epochs, verbose=0)
    return model


def main(_):
    keras.utils.set_random_seed(0)
    (x, y), test = images(FLAGS.dataset)
    x, y = x[:FLAGS.examples], y[:FLAGS.examples]

    model = lth.prune_low_magnitude(mobilenet(), structure="filters")
    compile_network(model, FLAGS.epochs * -(-len(y) // BATCH))
    lottery = lth.LotteryTicketCallback(
        rounds=FLAGS.rounds, epochs_per_round=FLAGS.epochs, fraction=0.175, criterion="l1",
        until={"macs": FLAGS.macs})
    model.fit(x, y, batch_size=BATCH, epochs=lottery.epochs, callbacks=[lottery], verbose=0)
    rows = []
    for name, ticket in (("dense", lottery.tickets[0]), ("ticket", lottery.ticket)):
        network = trained(ticket, x, y)
        made = lth.export(network, pathlib.Path(FLAGS.out) / name, data=test,
                          formats=["float32", "int8"], representative=x[:200], tolerance=1.0)
        found = made.rows[made.rows.runtime == "litert"]
        rows.append(found.assign(network=name)[["network", *COLUMNS]])
        for format_, reason in made.refused.items():
            print(f"{name} as {format_} was refused: {reason}")
    counts = dict.fromkeys(("macs", "parameters", "bytes"), "{:,}".format)
    print(pd.concat(rows).to_string(index=False, formatters={
        **counts, "latency_1_us": "{:.1f}".format, "accuracy": "{:.2%}".format}))


if __name__ == "__main__":
    app.run(main)
