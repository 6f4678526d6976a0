"""Strong lottery tickets: subnetworks of random networks that compute a target without training.

A random network of enough width holds, with high probability, a subnetwork that computes any
given network to any given error (Malach et al. 2020, arXiv:2002.00585).  Where weights are sums of
random ones, O(log 1/error) times the width is enough (Pensia et al. 2020, arXiv:2006.07990; Orseau
et al. 2020, arXiv:2006.12156).  This package finds such subnetworks:

    target weight -> random coefficients -> the nearest subset sum -> a mask

Read in this order:

1. `subset_sums`: `lth.strong.subset_sum`, the nearest of 2^n sums, exactly.
2. `choices`: three ways to compute one weight by random neurons, and their error at a width.
3. `random_layers`: one layer of a target as a subnetwork of two random layers.
4. `pensia`: Pensia et al.'s first experiment, each weight of a network as a sum of its own.
5. `target`: reads a trained model; `embedding`: `lth.strong.embed`, the model as a ticket of a
   random model.
6. `random_features`: what is had by choosing whole neurons instead of weights, which is less.

What "a random network" means here.  Pensia et al. give each target weight n coefficients of its
own.  In a network these are products of an in-weight and an out-weight: a hidden neuron keeps one
in-weight only, that of the input that it serves, and one out-weight for each output.  So n neurons
for each input give n coefficients for each weight, and a layer of d inputs needs n * d hidden
neurons, whatever its outputs.  The random network is dense, and fits into memory: for a target of
784-500-10 and n = 14 it has 10,976 and 7,000 hidden neurons and 17.7 million weights, 71 MB.  A
block-sparse one, of which only the weights are drawn that can be kept, would be smaller (of 12.1
million in-weights 18,000 are kept), but no ordinary model: what is drawn here is an ordinary Keras
model, and what is kept an ordinary ticket.

This package imports `core`, `files` and `graph`, and no Keras: `embedding` builds models by the
Keras that the target is of.
"""

import importlib
from typing import Any, TYPE_CHECKING

from lth_keras import extras

if TYPE_CHECKING:
    from lth_keras.strong.choices import errors_at_width
    from lth_keras.strong.embedding import embed, Embedding
    from lth_keras.strong.pensia import least_counts, sums_of_weights
    from lth_keras.strong.random_features import choose_neurons, relu_neuron_errors
    from lth_keras.strong.subset_sums import subset_sum

_HOMES = {
    "subset_sum": "subset_sums",
    "embed": "embedding",
    "Embedding": "embedding",
    "errors_at_width": "choices",
    "sums_of_weights": "pensia",
    "least_counts": "pensia",
    "choose_neurons": "random_features",
    "relu_neuron_errors": "random_features",
}

__all__ = ["Embedding", "choose_neurons", "embed", "errors_at_width", "least_counts",
           "relu_neuron_errors", "subset_sum", "sums_of_weights"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"lth.strong has no {name!r}; it has {', '.join(__all__)}")
    with extras.needed_for(f"lth.strong.{name}"):
        globals()[name] = value = getattr(
            importlib.import_module(f"lth_keras.strong.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return list(__all__)
