"""`lth.profile`: parameters, multiply-adds and activations of a model, by layer and in all."""

import dataclasses
import html
import math
from typing import Any

import pandas as pd

from lth_keras import providers
from lth_keras.costs.model_rows import COLUMNS, ModelRows, ModelRun
from lth_keras.errors import LotteryError
from lth_keras.files.engines import package_of

_COUNTS = ("parameters", "parameters_kept", "macs", "macs_kept", "activation_bytes")
_TITLES = {"parameters_kept": "kept", "macs": "multiply-adds", "macs_kept": "kept ",
           "activation_bytes": "activations (bytes)"}


@dataclasses.dataclass(frozen=True, eq=False)
class Profile:
    """What a model costs; `lth.profile` makes it, `print` and notebooks show it as a table.

    Attributes:
      name: the model's name.
      layers: a row a layer, in the order in which they are called: its path in the model as in the
        names of weights ("layer"), its class ("type"), "parameters" and "parameters_kept", the
        "density" of its prunable weights (NaN if it has none), its multiply-adds for one example,
        "macs" and "macs_kept", and "activation_bytes", what its outputs take for one example.
      density: the share of all prunable weights that are kept: the paper's P_m.
      notes: what was counted by assumption, a sentence each.

    Example:
      >>> table = pd.DataFrame([["fc", "Dense", 6, 6, 1.0, 4, 4, 8]], columns=COLUMNS)
      >>> Profile("small", table, 1.0, ())
      <profile of 'small': 6 parameters, 4 multiply-adds, 8 bytes of activations>
    """

    name: str
    layers: pd.DataFrame
    density: float
    notes: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """The number of weights, biases and statistics: Keras' count_params."""
        return self._total("parameters")

    @property
    def parameters_kept(self) -> int:
        """Those of them that are not pruned."""
        return self._total("parameters_kept")

    @property
    def macs(self) -> int:
        """Multiply-adds for one example."""
        return self._total("macs")

    @property
    def macs_kept(self) -> int:
        """Those of them with weights that are kept."""
        return self._total("macs_kept")

    @property
    def activation_bytes(self) -> int:
        """What the outputs of all layers take for one example, bytes."""
        return self._total("activation_bytes")

    def _total(self, column: str) -> int:
        return int(self.layers[column].sum())

    def __repr__(self) -> str:
        def part(total: int, kept: int, what: str) -> str:
            return f"{total:,} {what}" if kept == total else f"{kept:,} of {total:,} {what}"
        return (f"<profile of {self.name!r}: "
                f"{part(self.parameters, self.parameters_kept, 'parameters')}, "
                f"{part(self.macs, self.macs_kept, 'multiply-adds')}, "
                f"{self.activation_bytes:,} bytes of activations>")

    def __str__(self) -> str:
        table = self._shown().to_string(index=False, na_rep="-")
        head, *rows, total = table.splitlines()
        line = "-" * max(map(len, (head, *rows, total)))
        return "\n".join([head, line, *rows, line, total, *self.notes])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return str(self._shown().to_html(index=False, na_rep="-", border=0)) + notes

    def _shown(self) -> pd.DataFrame:
        # As text, with totals; what nothing is pruned of is shown once.
        total = {"layer": self.name, "type": "total", "density": self.density,
                 **{column: self._total(column) for column in _COUNTS}}
        rows = pd.concat([self.layers, pd.DataFrame([total])], ignore_index=True)
        dense = self.parameters_kept == self.parameters and self.macs_kept == self.macs
        shown = pd.DataFrame({"layer": rows.layer, "type": rows.type})
        for column in COLUMNS[2:]:
            if column == "density" and not dense:
                shown[column] = ["-" if math.isnan(share) else f"{share:.1%}"
                                 for share in rows.density]
            elif column != "density" and not (dense and column.endswith("_kept")):
                shown[_TITLES.get(column, column)] = [f"{count:,}" for count in rows[column]]
        return shown


def profile(model: Any, input_shape: Any = None) -> Profile:
    """Counts what a model costs: parameters, multiply-adds and activations, dense and pruned.

    A multiply-add is counted once, as in the literature: products of dense layers, convolutions,
    recurrent layers (every step) and attention (its projections, and its products of queries, keys
    and values).  Normalisation, activations, pooling, biases and embeddings count as none.  Kept
    multiply-adds are those with weights that are not pruned.  For whole filters they are what the
    smaller network of `lth.compact` computes; for single weights they are what a runtime would save
    that skips every zero, which few do.

    Weights are pruned where the masks of a search say so; in a model without masks, where a kernel
    is zero, if one in 1,000 of its weights or more are.  A layer that is called several times has
    its parameters counted once and its multiply-adds for each call.

    The model is called once without values, and is not changed.  In a layer of your own, what it
    multiplies by @, tf.matmul, tf.einsum or tf.tensordot, or those of keras.ops, is seen.  Any
    other of its weights of two axes or more counts once for every position of the layer's output,
    and `notes` says so.

    Args:
      model: a model of tf_keras, wrapped or not, or of Keras 3 on any backend.
      input_shape: the shape of one example, without the batch, where the model leaves a length
        open, or was never called; of several inputs a list of shapes, or a dict by their
        names, those of the dict that the model takes or those of its inputs.

    Returns:
      A `Profile`: `layers` is a pandas DataFrame, totals are attributes; print it for a table.

    Raises:
      LotteryError: if it is no model, is not built, or the shape of an example is not known.

    Example:
      >>> import keras
      >>> model = keras.Sequential([
      ...     keras.Input((28, 28, 1)), keras.layers.Conv2D(8, 3, name="conv"),
      ...     keras.layers.Flatten(name="flat"), keras.layers.Dense(10, name="fc")], name="small")
      >>> costs = profile(model)
      >>> costs
      <profile of 'small': 54,170 parameters, 102,752 multiply-adds, 43,304 bytes of activations>
      >>> costs.layers.macs.tolist()  # 26 x 26 positions of 72 weights; one of 5,408 x 10.
      [48672, 0, 54080]
    """
    package = package_of(model)
    if package is None:
        raise LotteryError("A model of Keras 3 or of tf_keras is needed. Received: "
                           f"{type(model).__module__}.{type(model).__qualname__}.")
    run: ModelRun = providers.provider(providers.MODEL_RUN[package])(model, input_shape)
    rows = ModelRows(run)
    return Profile(str(model.name), pd.DataFrame(list(rows), columns=COLUMNS), rows.density,
                   tuple(rows.notes))
