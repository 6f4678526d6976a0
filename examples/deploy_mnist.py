"""From a network to a file on a device: train, find the ticket, export, classify.

LeNet-300-100 on MNIST: `fit` searches it, the trained winning ticket is exported to TF Lite with
every file checked, and one of the files classifies an image in ten lines, without TensorFlow.

    tfds build mnist
    python examples/deploy_mnist.py
    python examples/deploy_mnist.py --dataset digits    # In the package: no download.
"""

import pathlib

import numpy as np
import tf_keras as keras
from absl import app, flags

import lth_keras as lth
from lth_keras.experiments.training import datasets

FLAGS = flags.FLAGS
flags.DEFINE_enum("dataset", "mnist", ["mnist", "digits"], "What to classify.")
flags.DEFINE_integer("rounds", 12, "How many times the network is pruned.", lower_bound=1)
flags.DEFINE_integer("epochs", 3, "Epochs of each round.", lower_bound=1)
flags.DEFINE_string("out", "deploy", "Folder for the files.")


def network(shape):
    return keras.Sequential([
        keras.layers.Input(shape),
        keras.layers.Flatten(),
        keras.layers.Dense(300, "relu"),
        keras.layers.Dense(100, "relu"),
        keras.layers.Dense(10),
    ])


def classify(path, image):
    """The class of one image: all that a device needs."""
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return int(logits[0].argmax())


def main(_):
    keras.utils.set_random_seed(0)
    found = datasets.load(FLAGS.dataset)
    train, test = datasets.scaled(found.x_train), datasets.scaled(found.x_test)

    model = lth.prune_low_magnitude(network(found.input_shape))
    model.compile(keras.optimizers.Adam(1.2e-3),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  metrics=["accuracy"], jit_compile=True)
    lottery = lth.LotteryTicketCallback(rounds=FLAGS.rounds, epochs_per_round=FLAGS.epochs,
                                        fraction={"default": 0.2, "output": 0.1}, verbose=0)
    model.fit(train, found.y_train, batch_size=60, epochs=lottery.epochs, callbacks=[lottery],
              verbose=0)
    print(f"density {lottery.ticket.density:.2%} after {FLAGS.rounds} rounds")

    made = lth.export(model, FLAGS.out, data=(test, found.y_test), representative=train[:500])
    columns = ["format", "runtime", "status", "bytes", "gzip_bytes", "accuracy", "latency_1_us"]
    print(made.rows[columns].to_string(index=False, float_format="{:.4g}".format))
    for name, reason in made.refused.items():
        print(f"{name} was refused: {reason}")

    path = pathlib.Path(FLAGS.out) / "model_dynamic_int8.tflite"
    said = [classify(path, image) for image in np.float32(test[:10])]
    print(f"{path} says {said}; they are {found.y_test[:10].tolist()}")


if __name__ == "__main__":
    app.run(main)
