"""What decides the directions of Resnet-18's claims at a tenth of the paper's steps.

Written before the runs.  A level is three of the paper's (1 - 0.8^3 of the weights are pruned), so
levels 1, 2 and 3 are its 3, 6 and 9, of 51, 27 and 14% of the weights.  Sizes of effects are not
those of the paper, and only their directions are judged, over paired replicates, by the accuracy
at the last step.  Rewinding to a later step is to step 100 of 3,000: ResNet-20 becomes stable at
2,000 of 63,000 (Frankle et al. 2020).

    lth run resnet18_low --scale 0.1 --replicates 3 --rounds 3 --branches ticket,reinit@2/3
        --set fraction=Conv2D:0.488,output:0,stage2_block1_shortcut:0,stage3_block1_shortcut:0
        --set dtype_policy=mixed_bfloat16
    lth run resnet18_warmup            likewise
    lth run resnet18                   likewise, with --branches ticket:2@0/3,reinit@2/3 and
        --set keep_trained=tickets; then `lth analyse barrier`
    lth run resnet18                   as the one before, without reinit, with --set rewind_step=100
        --set validation_every=100

All is trained in bfloat16, with float32 weights, if that changes little: replicate 0 of the first
is trained in float32 too, and over its networks the mean difference of accuracies must be equal
within a point, the least that the paper tells apart (D0).  Where that is not shown, all stays open.
"""

from collections.abc import Iterable

import pandas as pd
from judging import DENSE, equal, FINAL, gain, mean, of_one, Part, series, sign

NAMES = {"float32": "resnet18_low_tenth_float32",
         "low": "resnet18_low_tenth", "warm": "resnet18_warmup_tenth", "own": "resnet18_tenth",
         "rewound": "resnet18_rewound_tenth"}
LEVELS = (2, 3)
REPLICATES = 3


def _advantage(run: pd.DataFrame, level: int) -> pd.Series:
    return series(run, FINAL, ("ticket", level)) - series(run, FINAL, ("reinit", level))


def d0(low: pd.DataFrame, float32: pd.DataFrame) -> Iterable[Part]:
    """Networks that are trained in float32 come to the same."""
    networks = ["branch", "level"]
    ours, other = (run[run.replicate == 0].set_index(networks)[FINAL] for run in (low, float32))
    yield of_one(equal("float32 less bfloat16, at the last step", gain(other, ours), 1.0))


def d6(low: pd.DataFrame, own: pd.DataFrame) -> Iterable[Part]:
    """R1: there are winning tickets at 0.01, below the accuracy of dense networks at 0.1."""
    for level in LEVELS:
        yield sign(f"0.01: ticket less re-initialised, level {level}",
                   mean(100 * _advantage(low, level)))
    yield sign("dense at 0.1 less ticket at 0.01, level 2", gain(
        series(own, FINAL, DENSE), series(low, FINAL, ("ticket", 2))))


def d7(low: pd.DataFrame, own: pd.DataFrame) -> Iterable[Part]:
    """R2: at 0.1 the ticket's advantage vanishes."""
    for level in LEVELS:
        yield sign(f"ticket less re-initialised, at 0.01 less at 0.1, level {level}", gain(
            _advantage(low, level), _advantage(own, level)))


def d8(warm: pd.DataFrame, low: pd.DataFrame) -> Iterable[Part]:
    """R3: with warm-up to 0.03 there are tickets again, better ones than at 0.01."""
    for level in LEVELS:
        yield sign(f"0.03 with warm-up: ticket less re-initialised, level {level}",
                   mean(100 * _advantage(warm, level)))
    yield sign("ticket with warm-up less ticket at 0.01, level 2", gain(
        series(warm, FINAL, ("ticket", 2)), series(low, FINAL, ("ticket", 2))))


def d9(own: pd.DataFrame, rewound: pd.DataFrame) -> Iterable[Part]:
    """M2: at 0.1, tickets that are rewound to step 100 are better than those rewound to 0."""
    for level in LEVELS:
        yield sign(f"0.1: rewound to step 100 less rewound to 0, level {level}", gain(
            series(rewound, FINAL, ("ticket", level)), series(own, FINAL, ("ticket", level))))


def d10(own: pd.DataFrame, rewound: pd.DataFrame) -> Iterable[Part]:
    """M1, M3: what is trained from step 100 on is more stable to the order of the data."""
    for what, level in (("dense", 0), ("ticket of level 3", 3)):
        at_0, at_100 = (_instability(run, level) for run in (own, rewound))
        yield sign(f"instability of the {what}, from step 0 less from step 100", mean(
            100 * (at_0 - at_100)))


def _instability(run: pd.DataFrame, level: int) -> pd.Series:
    rows = run[(run.between == "data orders") & (run.level == level)]
    return rows.groupby("replicate").instability.mean()
