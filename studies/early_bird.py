"""Early-bird tickets: when the mask that pruning would give settles, in a real training.

    python studies/early_bird.py run        keeps studies/early_bird.csv, and draws the picture
    python studies/early_bird.py            draws docs/early_bird.png from what is kept

LeNet-300-100 is trained on MNIST for 30 epochs, batches of 128, SGD without momentum, three seeds
and two learning rates; after each epoch, masks are drawn that keep 20% and 5% of the weights.
(You et al., ICLR 2020, arXiv:1909.11957, figure 3, compare filters of VGG-16 and PreResNet-101.)
"""

import argparse
import pathlib

import pandas as pd
from matplotlib.figure import Figure

from lth_keras.experiments.training import datasets
from lth_keras.files import atomic
from lth_keras.reports.plots.early_bird_figure import distance_matrix

HERE = pathlib.Path(__file__).resolve().parent
KEPT = HERE / "early_bird.csv"
PICTURE = HERE.parent / "docs" / "early_bird.png"
EPOCHS = 30
RATES, DENSITIES, SEEDS = (0.1, 0.01), (0.2, 0.05), (0, 1, 2)


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["run"], help="train first")
    if parser.parse_args().what:
        found: list[pd.DataFrame] = []
        for rate in RATES:
            for seed in SEEDS:
                found.append(distances(rate, seed))
                print(f"learning rate {rate:g}, seed {seed}", flush=True)
        atomic.write(KEPT, pd.concat(found).to_csv(index=False, float_format="%.6f"))
    draw(pd.read_csv(KEPT)).savefig(PICTURE, dpi=130)


def distances(rate: float, seed: int) -> pd.DataFrame:
    """The distances between the masks of all epochs of one training, at each density."""
    import tf_keras as keras

    import lth_keras as lth
    keras.utils.set_random_seed(seed)
    data = datasets.load("mnist")
    model = lth.prune_low_magnitude(keras.Sequential([
        keras.layers.Input((28, 28, 1)), keras.layers.Flatten(),
        keras.layers.Dense(300, "relu"), keras.layers.Dense(100, "relu"),
        keras.layers.Dense(10)]))
    model.compile(keras.optimizers.SGD(rate), keras.losses.SparseCategoricalCrossentropy(
        from_logits=True), jit_compile=True)
    search = lth.Search(model, fraction=0.5)
    birds = {density: lth.EarlyBird(patience=EPOCHS, density=density) for density in DENSITIES}
    each = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: [bird.settles(search) for bird in birds.values()])
    model.fit(datasets.scaled(data.x_train), data.y_train, batch_size=128, epochs=EPOCHS,
              verbose=0, callbacks=[each])
    return pd.concat([bird.pairs.drop(columns="level").assign(
        rate=rate, seed=seed, density=density) for density, bird in birds.items()])


def draw(pairs: pd.DataFrame) -> Figure:
    """A square for each rate and density: the distance of each epoch's mask from each other's."""
    figure = Figure(figsize=(8.4, 7.4), layout="constrained")
    panels = figure.subplots(len(RATES), len(DENSITIES), squeeze=False, sharex=True, sharey=True)
    for row, rate in zip(panels, RATES, strict=True):
        for axes, density in zip(row, DENSITIES, strict=True):
            chosen = pairs[(pairs.rate == rate) & (pairs.density == density)]
            image = distance_matrix(axes, chosen.groupby(
                ["epoch", "other"], as_index=False).distance.mean())
            axes.set_title(f"learning rate {rate:g}, {density:.0%} kept", fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    for axes in panels[:, 0]:
        axes.set_ylabel("epoch")
    figure.suptitle("Distance between the masks of two epochs, relative to chance\n"
                    "LeNet-300-100 on MNIST, mean of 3 seeds", fontsize=11)
    figure.colorbar(image, ax=panels.ravel().tolist(), shrink=0.6,
                    label="0: the same mask; 1: no more in common than by chance")
    return figure


if __name__ == "__main__":
    main()
