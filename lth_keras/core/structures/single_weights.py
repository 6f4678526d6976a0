"""The structure "none": every weight may be pruned by itself."""

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lth_keras.core.structures.structure import Array, Structure
from lth_keras.core.structures.tfmot_arguments import pooling_option


@dataclasses.dataclass(frozen=True)
class SingleWeights(Structure):
    """Every weight is a unit; arrays of units have the shape of the weights.

    Attributes:
      block_pooling_type: has no effect; it is kept so that saved models keep their arguments.

    Example:
      >>> str(NONE), NONE.units((300, 10)), NONE.options
      ('none', 3000, {})
    """

    block_pooling_type: str = "AVG"

    word = "none"

    @property
    def is_none(self) -> bool:
        return True

    @property
    def options(self) -> dict[str, Any]:
        return pooling_option(self.block_pooling_type)

    def unit_of(self, shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
        return np.arange(self.units(shape)).reshape(shape)

    def units(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape)

    # These return their arguments, since most searches have this structure and copies cost time.

    def unit_scores(self, scores: Array, mask: Array) -> Array:
        return scores

    def kept_units(self, mask: Array) -> Array:
        return mask

    def spread(self, units: Array, mask: Array) -> Array:
        return units

    def shuffled(self, mask: Array, rng: np.random.Generator) -> Array:
        # A dense mask is permuted too, so that the draws after it do not depend on what is pruned.
        return rng.permutation(mask.ravel()).reshape(mask.shape)


NONE = SingleWeights()
