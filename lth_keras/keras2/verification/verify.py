"""`lth.verify`: four checks that every model passes if it is pruned and rewound correctly.

It is easy to see whether pruned weights are zero.  It is hard to see what was forgotten: an
optimizer that is not rewound, a loss that wrapping drops, a state that is carried from one round
into the next.  But two identities hold for every model: with full masks it trains as without
wrappers, and a round that is rewound without pruning repeats itself.  If they do not hold, the
report names the weights and the probable cause.
"""

from collections.abc import Callable
from typing import Any

from lth_keras.arguments import check_whole
from lth_keras.core.verification import Finding, Verification
from lth_keras.keras2.masking.wrap import prune_low_magnitude
from lth_keras.keras2.verification import checks
from lth_keras.keras2.verification.subject import Subject
from lth_keras.keras2.verification.trained import batches_of


def verify(build: Callable[[], Any], data: Any, steps: int = 20, *,
           wrap: Callable[[Any], Any] = prune_low_magnitude, seed: int = 0,
           strict: bool = False) -> Verification:
    """Checks, in seconds, that a model can be pruned and rewound without a silent fault.

    1. wrapping: wrapped, with nothing pruned, the model ends in the weights of the model as it is,
       to rounding, from the same weights, batches and seeds.
    2. rewinding: a round, a rewinding that prunes nothing and the round again end in the same bits.
    3. pruning: with half of the weights pruned, these stay zero and get no gradient, their
       optimizer slots stay fresh, and survivors train.
    4. stripping: without wrappers, saved and loaded, the model predicts the same, and nothing of
       this package is left in it.

    Args:
      build: makes the model, compiled and not trained, without arguments; called a few times.
      data: what `fit` takes: (x, y), (x, y, sample_weight), x, a tf.data.Dataset, a Sequence, or an
        iterable of batches.  Arrays are taken in batches of 32; `steps` batches are used.
      steps: optimizer steps of each training, >= 2.
      wrap: wraps the model, such as `functools.partial(lth.prune_low_magnitude, exclude="head")`.
        A model that `build` has wrapped is taken as it is.
      seed: of initial weights and draws.
      strict: whether to raise if a check fails.

    Returns:
      The report: print it; `ok` says whether all is well, `findings` what is not.

    Raises:
      LotteryError: if build is not a function, the model cannot be wrapped or is not compiled, or
        the data are none.
      InvariantError: with `strict`, if a check fails.

    Example:
      >>> import numpy as np
      >>> import tf_keras as keras
      >>> def build():
      ...     model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(8, "relu"),
      ...                               keras.layers.Dense(1)], name="small")
      ...     model.compile("adam", "mse")
      ...     return model
      >>> report = verify(build, (np.random.rand(64, 4), np.random.rand(64)), steps=4)
      >>> report.ok
      True
    """
    check_whole("steps", steps, 2)
    subject = Subject(build, wrap, batches_of(data, steps), seed)
    findings: list[Finding] = [*checks.wrapping(subject), *checks.rewinding(subject),
                               *checks.pruning(subject), *checks.stripping(subject)]
    report = Verification(subject.name, steps, tuple(findings), subject.skipped,
                          tuple(subject.notes))
    if strict:
        report.raise_if_failed()
    return report
