"""A model of tf_keras as `lth.verify` checks it: without wrappers and with them."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.arguments import one_line
from lth_keras.core.masks import Array
from lth_keras.core.verification import Finding, Recording
from lth_keras.errors import LotteryError
from lth_keras.keras2 import rewinding
from lth_keras.keras2.contents import CONTENTS
from lth_keras.keras2.masking.weight_names import (
    check_keras2,
    masked,
    named_weights,
    stored_in,
    wrappers,
)
from lth_keras.keras2.masking.wrap import prune_low_magnitude, strip_pruning
from lth_keras.keras2.verification import stripped
from lth_keras.keras2.verification.trained import batches_of, compiled_as, gradients_seen, train
from lth_keras.search.verification.subject import same, Subject


class WrappedSubject(Subject):
    """A model of tf_keras that is wrapped to be checked; see `Subject`.

    Args:
      build: a function that returns the compiled model.
      data, steps: the batches of a training; see `trained.batches_of`.
      seed: the seed of initial weights and of random numbers in training.
      wrap: a function that returns a model in wrappers.
      options: what only a model that is not wrapped takes.

    Raises:
      LotteryError: if there are options.
    """

    bare, covered = "the model that is not wrapped", "wrapped"
    no_gradient = ("a gradient that does not reach it once it is wrapped, as with "
                   "tf.recompute_grad and tf.custom_gradient")
    own_code = "the model's own code, which takes another way where its layers are wrapped"
    seen_gradient = "its layer's code, which reads the weight other than by its attribute"
    contents = CONTENTS

    def __init__(self, build: Callable[[], Any], data: Any, steps: int, seed: int,
                 wrap: Callable[[Any], Any] = prune_low_magnitude, **options: Any):
        if options:
            raise LotteryError(
                "A model of tf_keras is told what to prune when it is wrapped: wrap="
                f"functools.partial(lth.prune_low_magnitude, {', '.join(options)}=...). "
                f"Received: {', '.join(options)} for lth.verify.")
        super().__init__(build, batches_of(data, steps), seed)
        self._wrap = wrap

    def plain(self, **settings: Any) -> Any:
        model = self._built()
        bare = strip_pruning(model) if wrappers(model) else model
        return self.started(compiled_as(bare, model, **settings))

    def masked(self, **settings: Any) -> Any:
        model = self._built()
        covered = model if wrappers(model) else self._wrap(model)
        return self.started(compiled_as(covered, model, **settings))

    def _built(self) -> Any:
        keras.utils.set_random_seed(self.seed)
        model = self._build()
        check_keras2(model)
        if getattr(model, "optimizer", None) is None:
            raise LotteryError("build must return a tf_keras model that is built and compiled, and "
                               f"not trained. Received: {model!r:.100}, which is not compiled.")
        self.name = model.name
        return model

    def train(self, model: Any, after_step: Callable[[], None] | None = None,
              seed: int | None = None) -> Recording:
        return train(model, self.batches, self.seed if seed is None else seed, after_step)

    def predictions(self, model: Any) -> list[Any] | None:
        try:
            return stripped.predictions(model, self.batches[0])
        except Exception:  # A model that consists of others, such as a GAN, need not have a call.
            return None

    def stored(self, variable: Any) -> Array:
        return rewinding.stored(variable)

    def stored_in(self, variable: Any) -> Any:
        return stored_in(variable)

    def weights(self, model: Any) -> dict[str, Any]:
        return named_weights(model)

    def prunable(self, model: Any) -> Collection[str]:
        return masked(model).keys()

    def mask_ids(self, model: Any) -> set[int]:
        return {id(stored_in(variable)) for wrapper in wrappers(model)
                for variable in wrapper._non_trainable_weights}

    @contextlib.contextmanager
    def gradients_seen(self, model: Any, see: Callable[[Any, Any], None]) -> Iterator[None]:
        optimizers = [held.value for held in CONTENTS.of(model)
                      if CONTENTS.is_optimizer(held.value)]
        with gradients_seen(optimizers, lambda variable, gradient: see(
                variable, None if gradient is None else tf.convert_to_tensor(gradient).numpy())):
            yield

    def kept(self, model: Any) -> Iterator[Finding]:
        """Checks that the stripped model, saved and loaded, predicts the same and is plain."""
        wanted = self.predictions(model)
        plain = strip_pruning(model)
        yield from stripped.left_behind(plain)
        if wanted is None:
            self.skipped["stripping"] = "predictions not compared: the model cannot be called"
            return
        if not same(wanted, self.predictions(plain) or []):
            yield Finding("stripping", "predictions", "differ once the wrappers are taken off", 0)
        try:
            loaded, named = stripped.from_its_file(plain)
        except Exception as error:
            if self._can_be_kept():
                yield Finding("stripping", "file", "the stripped model cannot be saved and loaded, "
                              f"as the model that was never wrapped can: {one_line(error)}")
            else:
                self.skipped["stripping"] = ("not saved: Keras cannot load this model from a "
                                             "file, wrapped or not")
            return
        if named:
            yield Finding("stripping", "file", "the stripped model's file names the package")
        if not same(wanted, self.predictions(loaded) or []):
            yield Finding("stripping", "predictions", "differ once it is saved and loaded", 0)

    def _can_be_kept(self) -> bool:
        # Whether Keras can save and load the model without wrappers: if not, stripping is not at
        # fault.
        try:
            stripped.from_its_file(self.plain())
        except Exception:
            return False
        return True
