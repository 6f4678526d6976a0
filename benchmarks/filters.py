"""The section `filters`: what networks with fewer filters cost, files and training."""

from benchmarks import process
from benchmarks.options import Options
from benchmarks.rows import Row, row
from benchmarks.smaller_networks import FORMATS, ROUNDS

_TITLES = {"mobilenet_v2": "MobileNetV2 at 96x96", "resnet56": "ResNet-56", "conv2": "Conv-2",
           "resnet18": "Resnet-18 (20 layers), batch 128"}
_FILES = (("resnet56", 0.5), ("mobilenet_v2", 0.5), ("conv2", 0.25))
_TRAININGS = (("resnet18", 0.5), ("conv2", 0.5))


def filters(options: Options) -> list[Row]:
    """Latency of files and milliseconds of training steps, against the dense network's."""
    found = []
    for network, share in _FILES[:1 if options.quick else None]:
        figures = _figures("latency", network, share)
        options.say(f"{network}: files with {figures['share']:.1%} of the multiply-adds measured")
        for kind in FORMATS:
            dense, smaller = (_turns(figures, f"{kind} {which}") for which in ("dense", "smaller"))
            found += _pair(f"files of {_TITLES[network]}, one image, one thread", dense, smaller,
                           kind, figures["share"], "us")
    for network, share in _TRAININGS[:0 if options.quick else None]:
        figures = _figures("training", network, share)
        options.say(f"{network}: training with {figures['share']:.1%} measured")
        dense = _turns(figures, "dense")
        subject = f"training {_TITLES[network]}"
        found += _pair(subject, dense, _turns(figures, "smaller"), "lth run", figures["share"],
                       "ms a step")
        found.append(row("filters", subject, "masked", _turns(figures, "masked"),
                         unit="ms a step", against=dense, reference="dense, same turn",
                         setting="lth run"))
    return found


def _pair(subject: str, dense: list[float], smaller: list[float], setting: str, share: float,
          unit: str) -> list[Row]:
    return [row("filters", subject, name, values, unit=unit, against=dense, setting=setting,
                reference="dense, same turn", note=f"{share:.1%} of the multiply-adds are left")
            for name, values in (("dense", dense), ("smaller", smaller))]


def _figures(*arguments: object) -> dict[str, float]:
    return process.figures(process.module("benchmarks.smaller_networks", *map(str, arguments)))


def _turns(figures: dict[str, float], name: str) -> list[float]:
    return [figures[f"{name} {turn}"] for turn in range(ROUNDS)]
