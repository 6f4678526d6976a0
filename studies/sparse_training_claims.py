"""What decides the claims on masks that are found in training: from results to parts of a claim.

Claims of Evci et al. (ICML 2020, arXiv:1911.11134), of Ramanujan et al. (CVPR 2020,
arXiv:1911.13299) and of Diffenderfer & Kailkhura (ICLR 2021, arXiv:2103.09377), tried on
LeNet-300-100 and MNIST.  Written before the runs: accuracies are those at the last step.
"""

from collections.abc import Iterable

import pandas as pd
from judging import at_least, FINAL, gain, Part, series, sign

SPARSE = "lenet_300_100_sparse"
LAST = 5  # Its level of 2% of the weights.
SUPERMASK = "lenet_300_100_supermask"
HALF = 1  # Its level of half of the weights.
WIDTHS = (SUPERMASK, f"{SUPERMASK}_double", f"{SUPERMASK}_quadruple")


def e1(run: pd.DataFrame) -> Iterable[Part]:
    """RigL above SET, SET above a static random mask, gradual pruning no worse than RigL."""
    found = {branch: series(run, FINAL, (branch, LAST))
             for branch in ("random_mask", "set", "rigl", "gradual", "reinit", "ticket")}
    yield sign("RigL less SET", gain(found["rigl"], found["set"]))
    yield sign("SET less static random", gain(found["set"], found["random_mask"]))
    yield sign("gradual less RigL, and 0.3", gain(found["gradual"] + 0.003, found["rigl"]))


def e2(run: pd.DataFrame) -> Iterable[Part]:
    """A ticket is no worse than what is sparse from the start, of as many weights."""
    ticket = series(run, FINAL, ("ticket", LAST))
    for branch in ("rigl", "set", "random_mask", "gradual"):
        yield sign(f"ticket less {branch.replace('_', ' ')}, and 0.3",
                   gain(ticket + 0.003, series(run, FINAL, (branch, LAST))))


def e3(run: pd.DataFrame) -> Iterable[Part]:
    """Half of the weights of an untrained network classify MNIST."""
    yield at_least("edge-popup, half of the weights", series(run, FINAL, ("edge_popup", HALF)), 95)


def e4(*runs: pd.DataFrame) -> Iterable[Part]:
    """Edge-popup gets better with width, towards the trained network of the paper's width."""
    narrow, *wider = (series(run, FINAL, ("edge_popup", HALF)) for run in runs)
    for name, before, after in (("twice as wide", narrow, wider[0]),
                                ("four times as wide", *wider)):
        yield sign(f"edge-popup {name} less half of that width", gain(after, before))
    dense = series(runs[0], FINAL, ("ticket", 0))
    yield sign("edge-popup four times as wide less the trained dense network, and 1",
               gain(wider[-1] + 0.01, dense))


def e5(run: pd.DataFrame) -> Iterable[Part]:
    """Binary weights under a mask are within a point of edge-popup's."""
    yield sign("biprop less edge-popup, and 1", gain(
        series(run, FINAL, ("biprop", HALF)) + 0.01, series(run, FINAL, ("edge_popup", HALF))))
