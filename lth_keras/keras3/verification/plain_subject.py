"""A model of Keras 3 as `lth.verify` checks it: without masks and with them."""

import pathlib
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator
from typing import Any

import keras
import numpy as np

from lth_keras.arguments import one_line
from lth_keras.core.masks import Array
from lth_keras.core.verification import CHECKS_OF_KERAS_3, cut, Finding, Recording
from lth_keras.errors import LotteryError
from lth_keras.keras3.engine import PlainNetwork
from lth_keras.keras3.model_masks import ModelMasks
from lth_keras.keras3.verification.contents import CONTENTS, stored
from lth_keras.keras3.verification.recorded import batches_of, train, weights_now
from lth_keras.keras3.weights import check_keras3, named_weights
from lth_keras.search.search import Search
from lth_keras.search.verification.subject import same, Subject


class PlainSubject(Subject):
    """A model of Keras 3, which is not wrapped; see `Subject`.

    Args:
      build: a function that returns the compiled model.
      data, steps: the batches of a training; see `recorded.batches_of`.
      seed: the seed of initial weights and of random numbers in training.
      wrap: not for these models.
      options: include, exclude, structure: what to prune.

    Raises:
      LotteryError: if wrap is given.
    """

    checks = CHECKS_OF_KERAS_3
    contents = CONTENTS

    def __init__(self, build: Callable[[], Any], data: Any, steps: int, seed: int,
                 wrap: Any = None, **options: Any):
        if wrap is not None:
            raise LotteryError("A model of Keras 3 is not wrapped to be pruned. Received: wrap= "
                               "for lth.verify. Say what to prune by include=, exclude= and "
                               "structure=.")
        super().__init__(build, batches_of(data, steps), seed)
        self._options = options

    def plain(self, **settings: Any) -> Any:
        keras.utils.set_random_seed(self.seed)
        model = self._build()
        check_keras3(model)
        if getattr(model, "optimizer", None) is None or not model.built:
            raise LotteryError("build must return a Keras 3 model that is built and compiled, and "
                               f"not trained. Received: {model!r:.100}, which is not.")
        if ModelMasks.of(model) is not None:
            raise LotteryError("build must return a model that nothing has pruned. Received: "
                               f"{model.name!r}, which has masks. Apply no ticket to it.")
        self.name = model.name
        for name, value in settings.items():
            setattr(model, name, value)
        return self.started(model)

    def masked(self, **settings: Any) -> Any:
        model = self.plain(**settings)
        PlainNetwork(model, **self._options).check_ready()
        return model

    def search(self, model: Any, fraction: float, check: bool = False) -> Search:
        return Search(model, fraction=fraction, check=check, **self._options)

    def train(self, model: Any, after_step: Callable[[], None] | None = None,
              seed: int | None = None) -> Recording:
        return train(model, self.batches, self.seed if seed is None else seed, after_step)

    def predictions(self, model: Any) -> list[Any] | None:
        x = keras.utils.unpack_x_y_sample_weight(self.batches[0])[0]
        x = keras.tree.map_structure(keras.ops.convert_to_tensor, x)
        fresh = [(state, keras.ops.zeros(state.shape, state.dtype))
                 for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN)
                 for state in keras.tree.flatten(layer.states)
                 if isinstance(state, keras.Variable)]
        try:
            # A model that consists of others, such as a GAN, need not have a call.
            with keras.StatelessScope(fresh):
                outputs = model(x, training=False) if model._call_has_training_arg else model(x)
        except Exception:
            return None
        found = [keras.ops.convert_to_numpy(value) for value in keras.tree.flatten(outputs)]
        return [value.astype(np.float64) if value.dtype.kind in "fV" else value for value in found]

    def stored(self, variable: Any) -> Array:
        found: Array = stored(variable)
        return found

    def weights(self, model: Any) -> dict[str, Any]:
        return named_weights(model)

    def prunable(self, model: Any) -> Collection[str]:
        found = ModelMasks.of(model)
        return found.names if found else ()

    def mask_ids(self, model: Any) -> set[int]:
        found = ModelMasks.of(model)
        return set(found.variables) if found else set()

    def kept(self, model: Any) -> Iterator[Finding]:
        """Checks that the sparse model's file is an ordinary one, and predicts the same."""
        wanted = self.predictions(model)
        try:
            loaded, named, said = _from_its_file(model)
        except Exception as error:
            if self._can_be_kept():
                yield Finding("saving", "file", "the sparse model cannot be saved and loaded, as "
                              f"the model without masks can: {one_line(error)}")
            else:
                self.skipped["saving"] = ("not saved: Keras cannot load this model from a file, "
                                          "with masks or without")
            return
        if named:
            yield Finding("saving", "file", "names the package")
        if type(loaded) is not type(model):
            yield Finding("saving", "file", f"has a {type(loaded).__name__}, where the model is a "
                          f"{type(model).__name__}")
        for text in said:
            yield Finding("saving", "optimizer", f"is not loaded as it was saved: {text}")
        yield from self._differences(model, loaded, wanted)

    def _differences(self, model: Any, loaded: Any, wanted: Any) -> Iterator[Finding]:
        now = weights_now(model)
        for name, value in weights_now(loaded).items():
            if value.tobytes() != now[name].tobytes():
                yield Finding("saving", name, "differs once it is saved and loaded", 0)
        if wanted is None:
            self.skipped["saving"] = "predictions not compared: the model cannot be called"
        elif not same(wanted, self.predictions(loaded) or []):
            yield Finding("saving", "predictions", "differ once it is saved and loaded", 0)

    def _can_be_kept(self) -> bool:
        # Whether Keras can save and load the model without masks: if not, they are not at fault.
        try:
            _from_its_file(self.plain())
        except Exception:
            return False
        return True


def _from_its_file(model: Any) -> tuple[Any, bool, list[str]]:
    """Saves a model as a .keras file and loads it.

    Returns:
      The loaded model, whether the file names this package, and what Keras warned of the optimizer.
    """
    # Users' layers, which a file can only be loaded with if they are known by name.
    known = {type(layer).__name__: type(layer) for layer in model._flatten_layers()
             if not type(layer).__module__.startswith("keras.")}
    with tempfile.TemporaryDirectory() as folder, keras.saving.custom_object_scope(known), \
            warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        with zipfile.ZipFile(path) as file:
            named = b"lth_keras" in file.read("config.json")
        try:
            loaded = keras.models.load_model(path)
        except Exception:  # A loss or metric that Keras does not know by name.
            loaded = keras.models.load_model(path, compile=False)
    return loaded, named, [cut([one_line(str(warning.message))]) for warning in caught
                           if "optimizer" in str(warning.message)]
