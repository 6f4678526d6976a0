"""When masks count as settled, and the picture, on fabricated distances."""

import early_bird
import early_bird_claims as claims
import numpy as np
import pandas as pd
from judging import NOT_REPRODUCED, REPRODUCED


def pairs(settles, rate=0.1, density=0.2, seed=0):
    """Masks that differ from all earlier ones before an epoch, and from none of the later."""
    return pd.DataFrame([
        {"epoch": epoch, "other": other, "distance": 0.05 if other >= settles else 0.5,
         "rate": rate, "density": density, "seed": seed}
        for epoch in range(2, 31) for other in range(1, epoch)])


def test_masks_settle_when_the_last_five_agree():
    assert claims.settled(pairs(settles=1)) == 5 and claims.settled(pairs(settles=2)) == 6
    assert claims.settled(pairs(settles=40)) is None


def test_the_claim_is_of_every_seed_and_of_the_larger_rate():
    early, late = pairs(2), pairs(9, seed=1)
    slow = pairs(40, rate=0.01)
    part, = claims.eb1(pd.concat([early, slow]))
    assert part.verdict == REPRODUCED and "epoch 6 of 30" in part.said
    part, = claims.eb1(pd.concat([early, late]))
    assert part.verdict == NOT_REPRODUCED and "epoch 6, 13 of 30" in part.said


def test_a_square_is_symmetric_and_zero_on_its_diagonal():
    found = pd.concat([pairs(3, rate, density) for rate in early_bird.RATES
                       for density in early_bird.DENSITIES])
    figure = early_bird.draw(found)
    for axes in figure.axes[:4]:
        square = np.asarray(axes.images[0].get_array())
        assert square.shape == (30, 30) and (square == square.T).all()
        assert (np.diag(square) == 0).all() and square[0, 29] == 0.5 and square[10, 20] == 0.05
