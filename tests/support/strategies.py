"""Generated masks, scores and fractions."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

NAMES = ("out/kernel", "dense/kernel", "block/conv2d_1/kernel", "lstm/cell/kernel")

shapes = st.dictionaries(st.sampled_from(NAMES), hnp.array_shapes(min_dims=2, max_dims=4,
                                                                  max_side=4),
                         min_size=1, max_size=3)

fractions = st.sampled_from([0.0, 0.07, 0.1, 0.2, 0.25, 0.5, 0.75]) \
    | st.integers(0, 9999).map(lambda share: share / 10_000) \
    | st.floats(0, 1, exclude_max=True)

_scores = st.integers(-2, 2).map(float) | st.floats(allow_nan=False)


@st.composite
def masks(draw):
    return {name: draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)))
            for name, shape in draw(shapes).items()}


@st.composite
def mask_pairs(draw):
    first = draw(masks())
    return first, {name: draw(hnp.arrays(np.uint8, mask.shape, elements=st.integers(0, 1)))
                   for name, mask in first.items()}


@st.composite
def scored(draw):
    """Scores, often tied, and masks of the same shapes."""
    kept = draw(masks())
    return {name: draw(hnp.arrays(np.float64, mask.shape, elements=_scores))
            for name, mask in kept.items()}, kept


@st.composite
def scored_distinctly(draw):
    """Scores no two of which are equal, in one weight or between weights; and masks."""
    kept = draw(masks())
    total = sum(mask.size for mask in kept.values())
    order = np.random.default_rng(draw(st.integers(0, 2**32))).permutation(total) / 8 - 1
    parts = np.split(order, np.cumsum([mask.size for mask in kept.values()])[:-1])
    return {name: part.reshape(mask.shape)
            for (name, mask), part in zip(kept.items(), parts, strict=True)}, kept
