"""Strong tickets: the published experiments, what comes of them here, and docs/strong.md.

    python studies/strong.py pensia        keeps studies/strong/pensia.json, and writes the page
    ... width, coefficients, targets, neurons, networks or convolutions
                                           likewise, a .csv; width draws docs/strong.png
    ... page                               writes the page from what is kept

`pensia` trains a network of 784-500-10 without biases on MNIST, as Pensia et al. 2020
(arXiv:2006.07990) did, and makes each of its weights a sum of random coefficients: with their 21,
and with the fewest that bring every weight within 0.01; with coefficients of its own for each
weight, as their text says, and shared by the weights into a neuron, as in their code. `width` draws
the error of one weight against the number of random neurons, for the three ways to choose among
them; `coefficients` that of a number against the coefficients that a sum is chosen from; `targets`
embeds random networks of two and three layers. `neurons` computes one ReLU neuron by neurons and by
weights of a random network. `networks` embeds networks trained on MNIST into random ones, and tests
those. `convolutions` computes the two convolutions of LeNet-5 with 5 to 30 coefficients for each
weight, as da Cunha et al. 2022 did.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import strong_page

import lth_keras as lth
from lth_keras.experiments.training import datasets
from lth_keras.files import atomic, provenance
from lth_keras.strong import target

HERE = pathlib.Path(__file__).resolve().parent
KEPT = HERE / "strong"
PICTURE = HERE.parent / "docs" / "strong.png"
PAGE = HERE.parent / "docs" / "strong.md"
WITHIN = 0.01
COUNT = 21  # 3 * round(log2(1 / WITHIN)), as in the authors' code.
WIDTHS = {"malach": (10, 30, 100, 300, 1000, 3000, 10_000, 30_000),
          "product": (10, 30, 100, 300, 1000, 3000, 10_000, 30_000),
          "subset_sum": (4, 6, 8, 10, 12, 16, 20, 24, 28, 32)}
TITLES = {"malach": "one neuron, both weights matched (Malach et al.)",
          "product": "one neuron, by its product",
          "subset_sum": "sum of neurons (Pensia et al.)"}
DRAWS = 500


def mlp(keras: Any) -> Any:
    """Pensia et al.'s target: 784-500-10 without biases."""
    return keras.Sequential([
        keras.layers.Input((28 * 28,)), keras.layers.Dense(500, "relu", use_bias=False, name="fc1"),
        keras.layers.Dense(10, use_bias=False, name="fc2")])


def lenet_300_100(keras: Any) -> Any:
    """LeNet-300-100, with biases."""
    layers = keras.layers
    return keras.Sequential([
        layers.Input((28 * 28,)), layers.Dense(300, "relu", name="fc1"),
        layers.Dense(100, "relu", name="fc2"), layers.Dense(10, name="fc3")])


def lenet_5(keras: Any) -> Any:
    """LeNet-5 with ReLU and maxima; its convolutions with batch normalization."""
    layers = keras.layers
    convolutions = [layer for filters in (6, 16) for layer in (
        layers.Conv2D(filters, 5, name=f"conv{filters}"), layers.BatchNormalization(),
        layers.ReLU(), layers.MaxPooling2D(2))]
    return keras.Sequential([
        layers.Input((28, 28, 1)), *convolutions, layers.Flatten(),
        layers.Dense(120, "relu", name="fc1"), layers.Dense(84, "relu", name="fc2"),
        layers.Dense(10, name="fc3")])


NETWORKS = {"784-500-10": mlp, "LeNet-300-100": lenet_300_100, "LeNet-5": lenet_5}


def trained(build: Callable[[Any], Any], seed: int, data: datasets.Data, epochs: int = 10) -> Any:
    """Trains a network on MNIST."""
    import tf_keras as keras
    keras.utils.set_random_seed(seed)
    model = build(keras)
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(True))
    model.fit(inputs(data.x_train, model), data.y_train, batch_size=100, epochs=epochs, verbose=0)
    return model


def inputs(examples: Any, model: Any) -> Any:
    """Images as numbers in [0, 1], in the shape that a network takes."""
    return datasets.scaled(examples).reshape(len(examples), *model.input_shape[1:])


def accuracy(kernels: list[Any], x: Any, y: Any) -> float:
    """The share of examples that a network of these kernels classifies right, in percent."""
    first, second = (np.asarray(kernel, np.float32) for kernel in kernels)
    return round(float(100 * np.mean((np.maximum(x @ first, 0) @ second).argmax(axis=1) == y)), 2)


def pensia(seed: int = 0, data_dir: "str | None" = None) -> dict[str, Any]:
    """Runs the experiment, and returns its figures."""
    data = datasets.load("mnist", data_dir)
    start = time.perf_counter()
    model = trained(mlp, seed, data)
    kernels = [np.asarray(value) for value in model.get_weights()]
    test = inputs(data.x_test, model), data.y_test
    found = {"seed": seed, "versions": provenance.versions(), "machine": provenance.machine(),
             "target": {"accuracy": accuracy(kernels, *test),
                        "weights": sum(kernel.size for kernel in kernels),
                        "least": float(min(kernel.min() for kernel in kernels)),
                        "largest": float(max(kernel.max() for kernel in kernels)),
                        "seconds": round(time.perf_counter() - start, 1)}}
    for name, shared in (("own", False), ("shared", True)):
        start = time.perf_counter()
        counts = np.concatenate([each.ravel() for each in lth.strong.least_counts(
            kernels, WITHIN, 40, seed, shared)])
        least = int(counts.max())
        seconds = time.perf_counter() - start
        found[name] = {
            "least_count": least, "seconds_to_find_it": round(seconds, 1),
            "share_within": {str(count): round(float(np.mean(counts <= count)), 6)
                             for count in range(6, least + 1)},
            # More than theirs would take longer than all the rest.
            **{str(count): sums(kernels, count, seed, shared, test)
               for count in {COUNT, min(COUNT, least)}}}
    return found


def sums(kernels: list[Any], count: int, seed: int, shared: bool,
         test: tuple[Any, Any]) -> dict[str, Any]:
    """The figures of a network whose weights are sums of some of `count` coefficients."""
    start = time.perf_counter()
    found = lth.strong.sums_of_weights(kernels, count, seed, shared)
    seconds = time.perf_counter() - start
    errors = np.concatenate([each.ravel() for each in found.errors])
    return {"largest_error": float(f"{found.largest_error:.3g}"),
            "median_error": float(f"{np.median(errors):.3g}"), "kept": found.kept,
            "drawn": found.drawn, "kept_per_weight": round(found.kept_per_weight, 2),
            "accuracy": accuracy(found.kernels, *test), "seconds": round(seconds, 1)}


def networks(seed: int = 0, data_dir: "str | None" = None) -> pd.DataFrame:
    """Embeds trained networks into random ones: a row for each network and factor."""
    data, rows = datasets.load("mnist", data_dir), []
    for name, build in NETWORKS.items():
        model = trained(build, seed, data)
        x = inputs(data.x_test, model)
        wanted = model.predict(x, verbose=0)
        weights = sum(np.size(value) for value in model.get_weights())
        for factor in (8, 16):
            start = time.perf_counter()
            found = lth.strong.embed(model, factor, seed, nonnegative_inputs=True)
            seconds = time.perf_counter() - start
            random = found.model.predict(x, verbose=0)
            given = found.ticket.apply(found.model).predict(x, verbose=0)
            rows.append({
                "network": name, "factor": factor, "seed": seed, "weights": weights,
                "random_weights": found.size, "kept": found.kept,
                **{f"accuracy_{what}": round(100 * float(np.mean(
                    values.argmax(axis=1) == data.y_test)), 2) for what, values in (
                        ("target", wanted), ("random", random), ("pruned", given))},
                "weight_error": found.errors.weight_error.max(),
                "median_error": found.errors.median_error.max(),
                "output_error": float(abs(given - wanted).max()), "bound": found.bound,
                "largest_output": float(abs(wanted).max()), "seconds": round(seconds, 1)})
    return pd.DataFrame(rows)


def convolutions(seed: int = 0, data_dir: "str | None" = None) -> pd.DataFrame:
    """Computes LeNet-5's two convolutions by more and more coefficients: two rows for each number.

    The coefficients of each weight are as many numbers from U[-s, s], with s twice the largest
    weight of the layer (`sums`); or they are those of a random network, in which some neurons have
    the wrong sign (`network`).
    """
    import tf_keras as keras
    data, rows = datasets.load("mnist", data_dir), []
    whole = trained(lenet_5, seed, data)
    steps = [step for step in target.read(whole) if step.layer.name.startswith("conv")]
    part = keras.Sequential([
        keras.layers.Input((28, 28, 1)), keras.layers.Conv2D(6, 5, activation="relu"),
        keras.layers.MaxPooling2D(2), keras.layers.Conv2D(16, 5, activation="relu")])
    part.set_weights([array for step in steps for array in (step.kernel, step.bias)])
    x = inputs(data.x_test[:1000], part)
    wanted, weights = part.predict(x, verbose=0), part.get_weights()
    for count in (5, 10, 15, 20, 25, 30):
        found = lth.strong.embed(part, count, seed, nonnegative_inputs=True)
        given = {"network": found.ticket.apply(found.model).predict(x, verbose=0)}
        rng, errors = np.random.default_rng(seed), []
        for layer in range(2):
            kernel, bias = weights[2 * layer:2 * layer + 2]
            wished = np.append(kernel, bias).astype(np.float64)
            drawn = 2 * abs(wished).max() * rng.uniform(-1, 1, (len(wished), count))
            masks, error = lth.strong.subset_sum(wished, drawn)
            errors.append(error)
            sums = np.where(masks, drawn, 0).sum(axis=1)
            part.layers[2 * layer].set_weights(
                [sums[:kernel.size].reshape(kernel.shape), sums[kernel.size:]])
        given["sums"] = part.predict(x, verbose=0)
        part.set_weights(weights)
        worst = {"sums": np.concatenate(errors).max(), "network": found.errors.weight_error.max()}
        for kind, values in given.items():
            off = float(abs(values - wanted).max())
            rows.append({
                "coefficients": count, "of": kind, "seed": seed,
                "weight_error": float(worst[kind]), "output_error": off,
                "relative_output_error": off / float(wanted.max())})
    return pd.DataFrame(rows)


def width(seed: int = 0, data_dir: "str | None" = None) -> pd.DataFrame:
    """The error of one weight by way and width: quantiles of DRAWS draws, a row each."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame([
        {"method": method, "width": neurons, "seed": seed, "draws": DRAWS,
         **dict(zip(("q10", "median", "q90"), np.quantile(lth.strong.errors_at_width(
             method, neurons, DRAWS, rng), [0.1, 0.5, 0.9]), strict=True))}
        for method, widths in WIDTHS.items() for neurons in widths])


def coefficients(seed: int = 0, data_dir: "str | None" = None) -> pd.DataFrame:
    """The error of a subset sum by its coefficients: quantiles of DRAWS draws, a row each."""
    rng, rows = np.random.default_rng(seed), []
    for count in (5, 10, 15, 20, 25):
        wished, given = rng.uniform(-0.5, 0.5, DRAWS), rng.uniform(-1, 1, (DRAWS, count))
        errors = lth.strong.subset_sum(wished, given)[1]
        rows.append({"coefficients": count, "seed": seed, "draws": DRAWS,
                     **dict(zip(("q10", "median", "q90", "largest"),
                                np.quantile(errors, [0.1, 0.5, 0.9, 1]), strict=True))})
    return pd.DataFrame(rows)


def targets(seed: int = 0, data_dir: "str | None" = None) -> pd.DataFrame:
    """Embeds networks as in Malach et al.'s theorem 2.1: a row for each network and factor.

    They have 8 inputs, layers of 16 units and one output; the spectral norm of a kernel is at most
    one.  The error is the largest of 2,000 points of the unit ball, half of them on its surface.
    """
    import tf_keras as keras
    rows = []
    for layers in (2, 3):
        for draw in range(seed, seed + 10):
            rng = np.random.default_rng(draw)
            model = keras.Sequential([keras.layers.Input((8,)), *(
                keras.layers.Dense(16, "relu", use_bias=False) for _ in range(layers - 1)),
                keras.layers.Dense(1, use_bias=False)])
            model.set_weights([_of_norm_one(rng, kernel.shape) for kernel in model.get_weights()])
            x = _in_the_unit_ball(rng, 2000, 8)
            for factor in (8, 16, 24):
                found = lth.strong.embed(model, factor, draw)
                given = found.ticket.apply(found.model).predict(x, verbose=0)
                weights = model.count_params()
                rows.append({
                    "layers": layers, "seed": draw, "factor": factor, "weights": weights,
                    "kept": found.kept, "output_error": float(
                        abs(given - model.predict(x, verbose=0)).max())})
    return pd.DataFrame(rows)


def _of_norm_one(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    kernel = rng.uniform(-1, 1, shape) / np.sqrt(shape[0])
    return kernel / max(1, np.linalg.norm(kernel, 2))


def _in_the_unit_ball(rng: np.random.Generator, points: int, inputs: int) -> Any:
    # The second half lies on its surface, where errors are largest.
    x = rng.normal(size=(points, inputs))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[:points // 2] *= rng.random((points // 2, 1))**(1 / inputs)
    return x.astype(np.float32)


def drawn(table: pd.DataFrame) -> Any:
    """A figure of the table: error against width, both in logarithms."""
    from matplotlib import figure
    picture = figure.Figure((6.4, 4.2), layout="constrained")
    axes = picture.subplots()
    for method, rows in table.groupby("method", sort=False):
        line, = axes.plot(rows.width, rows["median"], marker="o", markersize=4,
                          label=TITLES[str(method)])
        axes.fill_between(rows.width, rows.q10, rows.q90, alpha=0.15, color=line.get_color())
    axes.set(xscale="log", yscale="log", xlabel="random neurons for the weight",
             ylabel="error of the weight, from U[-1/2, 1/2]", ylim=(1e-8, 1))
    axes.grid(alpha=0.3)
    axes.legend(title=f"median of {DRAWS} draws, 10 to 90%", frameon=False)
    return picture


def neurons(seed: int = 0, data_dir: "str | None" = None) -> pd.DataFrame:
    """Computes one ReLU neuron by a random network of 1,024: a row for each number of inputs."""
    return pd.DataFrame([{"inputs": count, "seed": draw, **lth.strong.relu_neuron_errors(
        count, 1024, np.random.default_rng(draw))}
        for count in (4, 8, 16, 32) for draw in range(seed, seed + 3)])


EXPERIMENTS = {"width": width, "coefficients": coefficients, "targets": targets, "neurons": neurons,
               "networks": networks, "convolutions": convolutions}


def main(arguments: "list[str] | None" = None) -> None:
    """Runs an experiment, keeps its figures, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=["pensia", *EXPERIMENTS, "page"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data_dir", help="the folder of tensorflow-datasets, or mnist.npz")
    asked = parser.parse_args(arguments)
    if asked.experiment == "pensia":
        text = json.dumps(pensia(asked.seed, asked.data_dir), indent=2) + "\n"
        atomic.write(KEPT / "pensia.json", text)
        print(text)
    elif asked.experiment != "page":
        table = EXPERIMENTS[asked.experiment](asked.seed, asked.data_dir)
        atomic.write(KEPT / f"{asked.experiment}.csv",
                     table.to_csv(index=False, float_format="%.4g"))
        print(table.to_string(index=False))
    if asked.experiment == "width":
        drawn(table).savefig(PICTURE, dpi=150)
    atomic.write(PAGE, strong_page.page(KEPT, EXPERIMENTS))


if __name__ == "__main__":
    main()
