"""Randomness: generators derived from what they are for, never from global state."""

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *, replicate: int = 0, level: int = 0,
              branch: str = "ticket", branch_index: int = 0) -> np.random.Generator:
    """The generator of one purpose in one training of one experiment.

    The same arguments give the same stream on every machine; any other argument gives
    an independent one.  So a training's draws do not depend on what ran before it.

    Args:
      seed: the experiment's seed, any whole number.
      purpose: what is drawn: "init", "data_order", "split", "criterion", "draws", the seed of
        what is drawn while training (augmentation, dropout), or "representative", the examples
        that an export takes ranges from.
      replicate: which repetition it is drawn for.
      level: which level.
      branch: which branch.
      branch_index: which of several trainings of that branch.

    Example:
      >>> draws = generator(0, "init").random(3)
      >>> bool((generator(0, "init").random(3) == draws).all())
      True
      >>> bool((generator(0, "init", replicate=1).random(3) == draws).any())
      False
    """
    text = f"{seed}/{replicate}/{level}/{branch}/{branch_index}/{purpose}"
    words = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.dtype("<u4"))
    return np.random.default_rng([int(word) for word in words])
