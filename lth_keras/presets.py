"""Presets: the settings of an experiment under a name.

To add one to the package, `register` a `Config` here; the command line then lists it.
"""

from lth_keras.config import Config
from lth_keras.errors import LotteryError

PRESETS: dict[str, Config] = {}
DESCRIPTIONS: dict[str, str] = {}


def register(config: Config, description: str) -> None:
    """Makes a configuration known by its `preset` name.

    Raises:
      LotteryError: if the name is taken.
    """
    if config.preset in PRESETS:
        raise LotteryError("A preset's name is taken once. "
                           f"Received: {config.preset!r} again.")
    PRESETS[config.preset] = config
    DESCRIPTIONS[config.preset] = description


def get(name: str) -> Config:
    """The configuration of a preset.

    Raises:
      LotteryError: if there is none of that name; the message lists those there are.

    Example:
      >>> get("lenet_300_100").steps
      50000
    """
    if name not in PRESETS:
        raise LotteryError(f"A preset must be one of {', '.join(PRESETS)}. Received: {name!r}.")
    return PRESETS[name]


_PAPER = {"default": 0.2, "output": 0.1}  # Frankle & Carbin 2019, figure 2.

register(
    Config(preset="digits", network="lenet_300_100", dataset="digits", fraction=_PAPER,
           steps=1000, rounds=12, replicates=3, validation_every=20, validation_size=300),
    "LeNet-300-100 on scikit-learn's 8x8 digits: no download, under a minute")
register(
    Config(preset="lenet_300_100", network="lenet_300_100", dataset="mnist", fraction=_PAPER,
           steps=50_000, rounds=16),
    "LeNet-300-100 on MNIST as in Frankle & Carbin 2019, section 2: Adam 1.2e-3, batches of 60")
register(
    Config(preset="conv2", network="conv2", dataset="cifar10", learning_rate=2e-4, steps=20_000,
           fraction={"Conv2D": 0.1, **_PAPER}, rounds=16),
    "Conv-2 on CIFAR-10 as in Frankle & Carbin 2019, section 3: Adam 2e-4, batches of 60")
