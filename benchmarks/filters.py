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
            found += _rows(f"files of {_TITLES[network]}, one image, one thread", figures,
                           (f"{kind} dense", f"{kind} smaller"), kind, "us")
    for network, share in _TRAININGS[:0 if options.quick else None]:
        figures = _figures("training", network, share)
        options.say(f"{network}: training with {figures['share']:.1%} measured")
        found += _rows(f"training {_TITLES[network]}", figures, ("dense", "masked", "smaller"),
                       "lth run", "ms a step")
    return found


def _rows(subject: str, figures: dict[str, float], names: tuple[str, ...], setting: str,
          unit: str) -> list[Row]:
    # The first name is that of the dense network.
    turns = {name: [figures[f"{name} {turn}"] for turn in range(ROUNDS)] for name in names}
    return [row("filters", subject, name.split()[-1], values, unit=unit, against=turns[names[0]],
                setting=setting, reference="dense, same turn",
                note=f"{figures['share']:.1%} of the multiply-adds are left")
            for name, values in turns.items()]


def _figures(*arguments: object) -> dict[str, float]:
    return process.figures(process.module("benchmarks.smaller_networks", *map(str, arguments)))
