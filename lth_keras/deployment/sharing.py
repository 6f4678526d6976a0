"""Weight sharing: weights rounded so that eight bits hold them exactly and a file packs well.

An int8 file takes a byte a weight however the weights look; what it takes compressed depends on
how many different values there are.  The converter scales each unit (output channel) by its
largest weight, s = max|w| / 127, so that weights which lie at q * s for few whole numbers q come
through its rounding as they are.
"""

import numpy as np

from lth_keras.core.masks import Array

# Fifteen values to each side of zero: as accurate on the papers' networks as all 127, while a
# compressed byte that is not zero takes about four bits in place of seven.
VALUES = 15
_MOST = 127


def rounded(weight: Array, values: int = VALUES) -> Array:
    """A weight with few different values a unit, which int8 represents exactly.

    With s = max|w| / 127 of a unit, s to eight bits of mantissa, every weight goes to the nearest
    s * round(127 * j / values) for a whole j between -values and values.  A zero stays zero.

    Args:
      weight: floats, shape (..., units).
      values: how many values there are to each side of zero, in [1, 127].

    Returns:
      An array of the same shape and type.

    Example:
      >>> rounded(np.array([[1.27, 0.0], [0.5, -2.0], [-0.03, 1.0]]), values=2).round(2)
      array([[ 1.27,  0.  ],
             [ 0.64, -2.  ],
             [ 0.  ,  1.01]])
    """
    flat = weight.reshape(-1, weight.shape[-1]).astype(np.float64)
    largest = np.abs(flat).max(axis=0, initial=0)
    scales = shortened(largest / _MOST).astype(np.float64)
    ladder = np.rint(np.arange(values + 1) * _MOST / values)
    middles = (ladder[1:] + ladder[:-1]) / 2
    steps = np.abs(flat) / np.where(scales > 0, scales, 1)
    # A negative zero would be another value.
    shared = np.sign(flat) * ladder[np.searchsorted(middles, steps)] * scales + 0.0
    return shared.reshape(weight.shape).astype(weight.dtype)


def shortened(values: Array) -> Array:
    """The nearest numbers with eight bits of mantissa, as float32: half of their bytes are zero.

    Example:
      >>> shortened(np.array([0.0, 1.0, -0.1])).tolist()
      [0.0, 1.0, -0.10009765625]
    """
    mantissas, exponents = np.frexp(np.asarray(values, np.float64))
    short: Array = np.ldexp(np.rint(mantissas * 256) / 256, exponents).astype(np.float32)
    return short
