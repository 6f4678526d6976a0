"""Random generators, each derived from its seed and purpose and not from global state."""

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *, replicate: int = 0, level: int = 0,
              branch: str = "ticket", branch_index: int = 0) -> np.random.Generator:
    """Returns the random generator of one purpose in one training of one experiment.

    The same arguments give the same numbers on every machine; different arguments give independent
    ones.  What a training draws therefore does not depend on what ran before it.

    Args:
      seed: the experiment's seed, any whole number.
      purpose: what is drawn: "init" (initial weights), "data_order", "split" (validation
        examples), "criterion", "control", "draws" (the seed of augmentation and dropout) or
        "representative" (the examples for int8 exports).
      replicate: the replicate.
      level: the level.
      branch: the branch.
      branch_index: which of several trainings of the branch.

    Example:
      >>> draws = generator(0, "init").random(3)
      >>> bool((generator(0, "init").random(3) == draws).all())
      True
      >>> bool((generator(0, "init", replicate=1).random(3) == draws).any())
      False
    """
    # A hash, so that generators of neighbouring seeds and levels have nothing in common; and not
    # Python's hash(), which differs between processes.
    text = f"{seed}/{replicate}/{level}/{branch}/{branch_index}/{purpose}"
    words = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.dtype("<u4"))
    return np.random.default_rng([int(word) for word in words])
