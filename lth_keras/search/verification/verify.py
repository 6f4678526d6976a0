"""`lth.verify`: four checks that every model passes if it is pruned and rewound correctly.

It is easy to see whether pruned weights are zero.  It is hard to see what was forgotten: an
optimizer that is not rewound, a loss that wrapping drops, a state that is carried from one round
into the next.  But two identities hold for every model: with full masks it trains as without
masks, and a round that is rewound without pruning repeats itself.  If they do not hold, the
report names the weights and the probable cause.
"""

from collections.abc import Callable
from typing import Any

from lth_keras import providers
from lth_keras.arguments import check_whole, given
from lth_keras.core.verification import Finding, Verification
from lth_keras.errors import LotteryError
from lth_keras.files.engines import package_of
from lth_keras.search.verification import checks
from lth_keras.search.verification.subject import Subject


def verify(build: Callable[[], Any], data: Any, steps: int = 20, *,
           wrap: Callable[[Any], Any] | None = None, include: Any = None, exclude: Any = None,
           structure: str | None = None, seed: int = 0, strict: bool = False) -> Verification:
    """Checks, in seconds, that a model can be pruned and rewound without a silent fault.

    1. wrapping: wrapped, with nothing pruned, the model ends in the weights of the model as it is,
       to rounding, from the same weights, batches and seeds.
    2. rewinding: a round, a rewinding that prunes nothing and the round again end in the same bits.
    3. pruning: with half of the weights pruned, these stay zero and get no gradient, their
       optimizer slots stay fresh, and survivors train.
    4. stripping: without wrappers, saved and loaded, the model predicts the same, and nothing of
       this package is left in it.

    A model of Keras 3 is not wrapped: the first check is "masking", which trains it with masks in
    its optimizer, and the last is "saving", of its file.

    Args:
      build: makes the model, compiled and not trained, without arguments; called a few times.
      data: what `fit` takes: (x, y), (x, y, sample_weight), x, a tf.data.Dataset, a Sequence, a
        PyDataset, a torch DataLoader, or an iterable of batches.  Arrays are taken in batches of
        32; `steps` batches are used.
      steps: optimizer steps of each training, >= 2.
      wrap: for a model of tf_keras, what wraps it, such as
        `functools.partial(lth.prune_low_magnitude, exclude="head")`; by default
        lth.prune_low_magnitude.  A model that `build` has wrapped is taken as it is.
      include: for a Keras 3 model, layers to prune although they are left out by default.
      exclude: for a Keras 3 model, layers to keep dense.
      structure: for a Keras 3 model, the structure in which weights are pruned.
      seed: of initial weights and draws.
      strict: whether to raise if a check fails.

    Returns:
      The report: print it; `ok` says whether all is well, `findings` what is not.

    Raises:
      LotteryError: if build is not a function, the model cannot be pruned or is not compiled, or
        the data are none.
      InvariantError: with `strict`, if a check fails.

    Example:
      >>> import keras
      >>> import numpy as np
      >>> def build():
      ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"),
      ...                               keras.layers.Dense(1)], name="small")
      ...     model.compile("adam", "mse")
      ...     return model
      >>> report = verify(build, (np.random.rand(64, 4), np.random.rand(64)), steps=4)
      >>> report.ok
      True
    """
    check_whole("steps", steps, 2)
    subject: Subject = providers.provider(providers.VERIFIED[_package(build)])(
        build, data, steps, seed,
        **given(wrap=wrap, include=include, exclude=exclude, structure=structure))
    findings: list[Finding] = [*checks.all_of(subject)]
    report = Verification(subject.name, steps, tuple(findings), subject.skipped,
                          tuple(subject.notes), subject.checks)
    if strict:
        report.raise_if_failed()
    return report


def _package(build: Callable[[], Any]) -> str:
    """The package of the Keras whose models a function builds."""
    if not callable(build) or package_of(build) is not None:  # A model can be called too.
        raise LotteryError(
            "build must be a function without arguments that returns a new compiled model at "
            f"every call. Received: {build!r:.100}.")
    model = build()
    package = package_of(model)
    if package is None:
        raise LotteryError("build must return a model of Keras 3 or of tf_keras. Received: "
                           f"{model!r:.100}.")
    return package
