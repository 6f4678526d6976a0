"""What decides the claims on whole filters: from counts and results to the parts of a claim.

Claims of Liu et al. (ICLR 2019, section 6 and table 1) on ResNet-56 and ResNet-110, tried on
LeNet-5 and Conv-2 at three densities.  Written before the runs: accuracies are those at the last
step, the margin is 0.3 points, and no difference is shown by two one-sided tests (`equal`: the 95%
interval lies within the margin).
"""

from collections.abc import Iterable

import filter_counts
import pandas as pd
from judging import equal, FINAL, gain, NOT_REPRODUCED, Part, REPRODUCED, series, sign

from lth_keras.core.fractions import count
from lth_keras.experiments.config import presets

MARGIN = 0.3  # Points.
LEVELS = (1, 2, 3)
# Preset -> its name, the filters kept in a stage's pruned layers, parameters and multiply-adds
# saved in percent (Li et al. 2017, table 1), and the epochs of Scratch-B in place of 160 (Liu et
# al.'s code).
CONFIGURATIONS = {
    "vgg16_l1_a": ("VGG-16-A", (32, 256), 64.0, 34.2, 243),
    "resnet56_l1_a": ("ResNet-56-A", (14, 28, 57), 9.4, 10.4, 178),
    "resnet56_l1_b": ("ResNet-56-B", (6, 22, 57), 13.7, 27.6, 220),
    "resnet110_l1_a": ("ResNet-110-A", (8,), 2.3, 15.9, 190),
    "resnet110_l1_b": ("ResNet-110-B", (8, 19, 44), 32.4, 38.6, 260)}


def filters(layer: str) -> int:
    """How many filters a layer of the dense networks has, by its name."""
    number = int(layer.rpartition("conv")[2])
    if layer.startswith("stage"):
        return 8 * 2 ** int(layer[len("stage")])
    return next(width for last, width in ((2, 64), (4, 128), (7, 256), (13, 512))
                if number <= last)


def kept(preset: str) -> dict[str, int]:
    """Layer -> how many filters a preset's ticket keeps, as pruning counts them."""
    fraction = presets.get(preset).fraction
    assert isinstance(fraction, dict)
    return {layer: filters(layer) - count(share, filters(layer))
            for layer, share in fraction.items() if layer != "default"}


def s1() -> Iterable[Part]:
    """What the five configurations keep and save, by counting."""
    for preset, (name, widths, parameters, macs, epochs) in CONFIGURATIONS.items():
        left, network = kept(preset), presets.get(preset).network
        dense, pruned = filter_counts.counted(network), filter_counts.counted(network, left)
        saved = 100 * (1 - pruned.parameters / dense.parameters)
        fewer = 100 * (1 - pruned.macs / dense.macs)
        longer = int(160 * dense.flops / pruned.flops)
        same = tuple(dict.fromkeys(left.values())) == widths and longer == epochs and \
            max(abs(saved - parameters), abs(fewer - macs)) <= 0.1
        yield Part(f"{name}: {', '.join(map(str, widths))} filters, -{saved:.1f}% parameters "
                   f"({parameters}), -{fewer:.1f}% multiply-adds ({macs}), {longer} epochs "
                   f"({epochs})", REPRODUCED if same else NOT_REPRODUCED, 0)


def s2(run: pd.DataFrame) -> Iterable[Part]:
    """The ticket is as good as the same network re-initialised."""
    for level in LEVELS:
        yield equal(f"ticket less re-initialised, level {level}", gain(
            series(run, FINAL, ("ticket", level)), series(run, FINAL, ("reinit", level))), MARGIN)


def s3(run: pd.DataFrame, tuned: pd.DataFrame) -> Iterable[Part]:
    """Scratch-B is no worse than fine-tuning, by more than 0.1 points."""
    for level in LEVELS:
        found = gain(series(run, FINAL, ("scratch", level)) + 0.001,
                     series(tuned, FINAL, ("ticket", level)))
        yield sign(f"Scratch-B less fine-tuned, level {level}, and 0.1", found)


def s4(run: pd.DataFrame, tuned: pd.DataFrame) -> Iterable[Part]:
    """Scratch-E is as good as fine-tuning."""
    for level in LEVELS:
        yield equal(f"Scratch-E less fine-tuned, level {level}", gain(
            series(run, FINAL, ("reinit", level)), series(tuned, FINAL, ("ticket", level))),
            MARGIN)


def s6(run: pd.DataFrame, rewound: pd.DataFrame) -> Iterable[Part]:
    """Rewinding the learning rate beats re-initialisation."""
    for level in LEVELS:
        yield sign(f"rewound learning rate less re-initialised, level {level}", gain(
            series(rewound, FINAL, ("ticket", level)), series(run, FINAL, ("reinit", level))))
