"""What a line of docs/compatibility.md is made of: a thing users have, tried for real."""

import dataclasses
from collections.abc import Callable, Mapping


@dataclasses.dataclass(frozen=True)
class Case:
    """A model or a feature of training, with this package and with stock tfmot.

    Attributes:
      title: what the table calls it.
      ours: raises if it does not work with this package.  Where there is a `limit`, it checks
        instead that the refusal is the clear one, or that a dense model fails the same way.
      stock: raises if it does not work with tfmot's own prune_low_magnitude and
        UpdatePruningStep; None where tfmot has nothing to compare with.
      limit: the reason why it does not work with this package; empty if it does.
    """

    title: str
    ours: Callable[[], None]
    stock: Callable[[], None] | None
    limit: str = ""


BACKENDS = ("tensorflow", "jax", "torch")


@dataclasses.dataclass(frozen=True)
class BackendCase:
    """A Keras 3 model, with this package, on the backend that a process has.

    Attributes:
      title: what the table calls it; as in the catalogue of tf_keras where that has it too.
      run: raises if it does not work.  Where there is a limit, it checks instead that the refusal
        is the clear one, or that a dense model fails too.
      limits: backend -> the reason why it does not work there; without those where it does.
      needs: a package that it is of, besides Keras; it is left out where that is missing.
    """

    title: str
    run: Callable[[], None]
    limits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needs: str = ""
