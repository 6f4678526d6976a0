"""What docs/strong.md says, and the tables in it."""

import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

TEXT = """# Strong tickets

A random network of enough width holds a subnetwork that computes a given network, without training
(Malach et al. 2020).  `lth.strong.embed` finds it: of a trained model it makes a random model of
twice the depth, and an ordinary ticket over it, which is saved, loaded and applied as any other.

```python
import lth_keras as lth
import numpy as np
import tf_keras as keras

trained = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(16, "relu"),
                            keras.layers.Dense(3)])            # Stands for a trained model.
found = lth.strong.embed(trained, factor=20, seed=0)
found.ticket.save("strong.ticket")
pruned = lth.Ticket.load("strong.ticket").apply(found.model)   # No weight of it was trained.
x = np.random.default_rng(0).uniform(-1, 1, (100, 8))
assert abs(pruned.predict(x) - trained.predict(x)).max() <= found.bound + 1e-5
print(found.errors)                                            # By layer: errors, sizes, bound.
```

Each weight of the target gets `factor` random coefficients of its own, and keeps those whose sum is
nearest to it.  `lth.strong.subset_sum` finds them exactly, by meeting in the middle; no integer
program is solved.  The random model is dense: a layer has `factor` hidden neurons for each input,
twice as many for inputs that may be negative.  Dense layers, convolutions, biases, batch
normalization, poolings and the usual activations are computed; what is not, is refused by name.

This page is written by `python studies/strong.py`, from
[what it measured](../studies/strong).

## The error of one weight

![Error of a weight against the number of random neurons](strong.png)

Matching the two weights of one neuron, as in Malach et al.'s proof, costs 1/error^2 neurons;
matching their product, 1/error; a sum of neurons, log(1/error).  A neuron with the wrong sign gives
nothing, and half of these have it.

The sum itself, of some of n coefficients from U[-1, 1] for a number from U[-1/2, 1/2], is off by
this much; a coefficient more makes the median half as large:

{coefficients}

## Ten random networks

As in Malach et al.'s theorem 2.1: 8 inputs, layers of 16 units, one output, kernels of norm 1, and
a factor of n neurons for each weight and sign.  `output error` is the largest in 2,000 points of
the unit ball, in the median network and in the worst of ten.

{targets}

## Pensia et al.'s experiment

A network of 784-500-10 without biases, trained on MNIST to {target[accuracy]}%, with
{target[weights]:,} weights from {target[least]:.3f} to {target[largest]:.3f}.  Each becomes a
sum of some of n coefficients, uniform in that range.  They took n = 21 and 21.5 hours on 36 cores;
they kept 9.39 coefficients a weight, with all weights within 0.01 and the accuracy unchanged
(97.19%).

| coefficients | n | largest error | median | kept | kept a weight | accuracy | seconds |
|---|---:|---:|---:|---:|---:|---:|---:|
{pensia}

Their code shares coefficients among the weights into a neuron.  None of the 510 draws is unlucky
then, and n = {shared[least_count]} already brings every weight within 0.01.  Their text gives
each weight its own.  Of {target[weights]:,} draws a few have nearly all coefficients of the wrong
sign: n = 21 leaves {off} weights further off, and {own[least_count]} is the least that leaves none.

Seconds are of one process: {machine}.

## Neurons instead of weights

One ReLU neuron of d inputs, by a random network with 1,024 hidden neurons: the root mean square
error, relative, the median of three draws.  Subnetworks of neurons (`greedy`: kept as they are;
`nnls`: with factors >= 0) are no better than the best sum of their features (`ridge`), which gets
worse with d.  A subnetwork of weights stays within a thousandth, with 20 neurons for each weight
and sign, or the 16 that this width has for 32 inputs.

{neurons}

## Whole networks

Trained on MNIST, and embedded with inputs that are never negative.  The random network is at
chance, its subnetwork is the target.  `output error` is the largest difference of a logit on the
test set; `bound` is what it can be for any input in [0, 1], which is far from what occurs: it takes
all errors to add up.

{networks}

## Convolutions

The two convolutions of LeNet-5, on 1,000 test images, with n coefficients for each weight, as da
Cunha et al. 2022 have it.  `sums`: uniform coefficients; `network`: the products of a random
network.  Its first layer has one channel, so that many of its neurons have the wrong sign.

{convolutions}

The largest error is that of the least lucky weight, and falls unevenly: from 10 to 30 coefficients
by {falls[sums]:.0f} times for every five, on average, and by {falls[network]:.0f} times in a
random network.
"""


def page(kept: pathlib.Path, tables: Iterable[str]) -> str:
    """The page, from what is kept.

    Args:
      kept: the folder with pensia.json and the tables.
      tables: their names, without ".csv".
    """
    pensia = json.loads((kept / "pensia.json").read_text())
    found = {name: pd.read_csv(kept / f"{name}.csv") for name in tables}
    versions = ", ".join(f"{name} {version}" for name, version in pensia["versions"].items())
    neurons = found["neurons"].groupby("inputs").median().drop(columns="seed").reset_index()
    return TEXT.format(
        **pensia | {"pensia": "\n".join(_pensia_rows(pensia)),
                    "machine": f"{pensia['machine']}; {versions}"},
        off=round((1 - pensia["own"]["share_within"]["21"]) * pensia["target"]["weights"]),
        coefficients=_markdown(found["coefficients"].drop(columns=["seed", "draws"])),
        targets=_markdown(_by_factor(found["targets"])), neurons=_markdown(neurons),
        networks=_markdown(found["networks"].drop(columns=["seed", "largest_output"])),
        convolutions=_markdown(found["convolutions"].drop(columns="seed")),
        falls={kind: _fall(rows) for kind, rows in found["convolutions"].groupby("of")})


def _by_factor(targets: pd.DataFrame) -> pd.DataFrame:
    targets = targets.assign(kept_per_weight=targets.kept / targets.weights)
    return targets.groupby(["layers", "factor"]).agg(
        kept_per_weight=("kept_per_weight", "median"),
        median_output_error=("output_error", "median"),
        largest_output_error=("output_error", "max")).reset_index()


def _fall(rows: pd.DataFrame) -> float:
    # How many times smaller the output error gets with five coefficients more, from 10 to 30.
    errors = rows.set_index("coefficients").output_error
    return float((errors[10] / errors[30])**0.25)


def _pensia_rows(found: dict[str, Any]) -> Iterator[str]:
    for name, title in (("shared", "shared by the weights into a neuron"),
                        ("own", "of each weight's own")):
        for count, row in found[name].items():
            if count.isdigit():
                yield (f"| {title} | {count} | {row['largest_error']} | {row['median_error']} | "
                       f"{row['kept']:,} | {row['kept_per_weight']} | {row['accuracy']}% | "
                       f"{row['seconds']} |")


def _markdown(table: pd.DataFrame) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.2g}" if abs(value) < 10 else f"{value:,.{0 if value >= 1000 else 2}f}"
        return f"{value:,}" if isinstance(value, int) else str(value)
    numbers = [pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]
    rows = [[name.replace("_", " ") for name in table],
            ["---:" if number else "---" for number in numbers],
            *([cell(value) for value in row] for row in table.astype(object).to_numpy())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
