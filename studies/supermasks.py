"""Supermasks: how good untrained networks get, by the share of their weights that is kept.

    python studies/supermasks.py run        keeps studies/supermasks.csv, and draws the picture
    python studies/supermasks.py            draws docs/supermasks.png from what is kept

`lth.Supermask` in tf_keras' own fit, on MNIST, ten epochs of batches of 128, three seeds: of
LeNet-300-100, edge-popup at ten shares with weights from VarianceScaling(2 / kept), at a half with
HeNormal and with Keras' own too, and Zhou et al.'s masks; of LeNet-5 with ReLU, a convolutional
network, edge-popup at seven shares, five epochs.  What is kept already is not run again.
(Ramanujan et al., CVPR 2020, arXiv:1911.13299, figure 3, have the shares of deeper networks.)
"""

import argparse
import pathlib
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from lth_keras.experiments.training import datasets
from lth_keras.files import atomic

HERE = pathlib.Path(__file__).resolve().parent
KEPT = HERE / "supermasks.csv"
PICTURE = HERE.parent / "docs" / "supermasks.png"
LENET, CONVOLUTIONS = "LeNet-300-100", "LeNet-5"
SCALED, HE, GLOROT = "VarianceScaling(2 / kept)", "HeNormal", "GlorotUniform"
SHARES = (0.0, 0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0)
FEWER = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
SEEDS = (0, 1, 2)


class Case(NamedTuple):
    """One training."""

    network: str
    method: str
    kept: float
    initializer: str
    optimizer: str
    epochs: int
    seed: int


def cases() -> list[Case]:
    """All trainings, the shares of a network in turn."""
    sgd, adam = "SGD 0.1", "Adam 0.1"
    kinds = [
        *((LENET, "edge_popup", share, SCALED, sgd, 10) for share in SHARES),
        *((LENET, "edge_popup", 0.5, initializer, sgd, 10) for initializer in (HE, GLOROT)),
        (LENET, "bernoulli", 0.5, HE, adam, 10),
        *((CONVOLUTIONS, "edge_popup", share, SCALED, sgd, 5) for share in FEWER)]
    return [Case(*kind, seed) for kind in kinds for seed in SEEDS]


def network(case: Case) -> Any:
    """The network of a training."""
    from tf_keras import initializers, layers, Sequential
    start = {SCALED: initializers.VarianceScaling(2 / (case.kept or 1)),
             HE: initializers.HeNormal(), GLOROT: initializers.GlorotUniform()}[case.initializer]

    def seeded() -> Any:  # Each layer draws other weights.
        return type(start).from_config({**start.get_config(), "seed": next(seeds)})
    seeds = iter(range(1000 * case.seed, 1000 * case.seed + 10))
    first: list[Any] = [] if case.network == LENET else [
        layer for filters in (6, 16) for layer in (
            layers.Conv2D(filters, 5, activation="relu", kernel_initializer=seeded()),
            layers.MaxPooling2D(2))]
    widths = (300, 100) if case.network == LENET else (120, 84)
    return Sequential([
        layers.Input((28, 28, 1)), *first, layers.Flatten(),
        *(layers.Dense(width, "relu", kernel_initializer=seeded()) for width in widths),
        layers.Dense(10, kernel_initializer=seeded())])


def accuracy(case: Case, data: datasets.Data) -> float:
    """Trains the masks of a network, and gives its test accuracy in percent."""
    import tf_keras as keras

    import lth_keras as lth
    keras.utils.set_random_seed(case.seed)
    model = network(case)
    optimizer = lth.Supermask(
        model, keras.optimizers.SGD(0.1, momentum=0.9) if case.optimizer.startswith("SGD")
        else keras.optimizers.Adam(0.1), case.kept, method=case.method, seed=case.seed)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  ["accuracy"], jit_compile=case.network == LENET)
    model.fit(datasets.scaled(data.x_train), data.y_train, batch_size=128, epochs=case.epochs,
              verbose=0)
    optimizer.check()
    optimizer.settle()
    found = model.evaluate(datasets.scaled(data.x_test), data.y_test, verbose=0)[1]
    return round(100 * float(found), 2)


def run(data_dir: "str | None" = None) -> None:
    """Trains what is not kept yet, and keeps each as it comes."""
    rows = pd.read_csv(KEPT).to_dict("records") if KEPT.exists() else []
    done = {Case(**{field: row[field] for field in Case._fields}) for row in rows}
    data = datasets.load("mnist", data_dir)
    for case in cases():
        if case not in done:
            rows.append({**case._asdict(), "accuracy": accuracy(case, data)})
            print(*rows[-1].values(), flush=True)
            atomic.write(KEPT, pd.DataFrame(rows).to_csv(index=False))


def draw(rows: pd.DataFrame) -> Figure:
    """Test accuracy against the share of weights kept, a line for each network."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    chosen = rows[(rows.method == "edge_popup") & (rows.initializer == SCALED)]
    for name, found in chosen.groupby("network", sort=False):
        by_share = found.groupby("kept").accuracy
        axes.plot(by_share.mean(), marker="o", markersize=4, label=name)
        axes.fill_between(sorted(set(found.kept)), by_share.min(), by_share.max(), alpha=0.2)
    axes.axhline(10, color="gray", linestyle=":", linewidth=1, label="chance")
    axes.set(xlabel="share of the weights that is kept", ylabel="test accuracy, %", ylim=(0, 100),
             title="Edge-popup: no weight is trained (MNIST, mean and range of 3 seeds)")
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower center")
    return figure


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["run"], help="train first")
    parser.add_argument("--data_dir", help="the folder of tensorflow-datasets, or mnist.npz")
    asked = parser.parse_args()
    if asked.what:
        run(asked.data_dir)
    draw(pd.read_csv(KEPT)).savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
