"""Writes the compiled interval of a network as StableHLO, with all it takes to run it.

    python -m benchmarks.stablehlo.export OUT --networks lenet_300_100,conv2,resnet18

For each network OUT/NETWORK gets

    program.mlir.gz   the program: optimizer steps in a loop, then validation
    signature.json    what each of its parameters and outputs is; the data; the work of a step
    inputs.npz        what the parameters are at the start, without the data
    expected.npz      what TensorFlow computed from there, here: variables,
    expected.json     and losses
    data.npz          the data set, with --data only; otherwise it is drawn from a seed
"""

import argparse
import dataclasses
import gzip
import json
import pathlib
import re
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.stablehlo import floor
from benchmarks.stablehlo.runner.compare import ENTRIES, sample
from benchmarks.stablehlo.runner.program import digest, draw, DRAWN
from benchmarks.stablehlo.signature import captured_variables, describe
from lth_keras.core.masks import Array, ones
from lth_keras.core.pruning import prune
from lth_keras.experiments.config import presets
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training import datasets as data_sets
from lth_keras.experiments.training import models
from lth_keras.experiments.training.data_feed import Interval
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.trainer import intervals, Trainer, TrainingSpec
from lth_keras.files import provenance
from lth_keras.keras2 import rewinding
from lth_keras.keras2.masking.weight_names import masked
from lth_keras.keras2.masking.wrap import prune_low_magnitude

_SETTINGS: dict[str, dict[str, Any]] = {
    "lenet_300_100": {"dataset": "mnist", "learning_rate": 1.2e-3, "batch_size": 60},
    "conv2": {"dataset": "cifar10", "learning_rate": 2e-4, "batch_size": 60},
    "resnet18": {"dataset": "cifar10", "optimizer": "sgd", "momentum": 0.9,
                 "learning_rate": 0.01, "batch_size": 128},
}
_SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
_CHECKED_FRACTION = 0.5  # Pruned before the comparison, so that masks in a wrong place show.


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
    """A network about to be exported: its model, its data and what it is trained on."""

    config: Config
    model: Any
    data: Data
    trainer: Trainer
    plan: TrainingSpec


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--networks", default=",".join(_SETTINGS))
    parser.add_argument("--steps", type=int, nargs="+", default=[100],
                        help="steps of an interval: one number, or one for each network")
    parser.add_argument("--intervals", type=int, default=2, help="intervals to compare")
    parser.add_argument("--compared_steps", type=int, default=100,
                        help="steps that TensorFlow takes of each, where all would take long")
    parser.add_argument("--examples", type=int, default=60_000, help="examples drawn, all parts")
    parser.add_argument("--validation", type=int, default=5_000)
    parser.add_argument("--data", action="store_true",
                        help="the networks' own data sets, MNIST and CIFAR-10, in place of "
                        "random pixels and classes")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    networks = given.networks.split(",")
    steps = given.steps * len(networks) if len(given.steps) == 1 else given.steps
    for network, rows in zip(networks, steps, strict=True):
        config = presets.get("lenet_300_100").replace(
            network=network, steps=rows * given.intervals, validation_every=rows,
            validation_size=given.validation, seed=given.seed, **_SETTINGS[network])
        data, described = _data(config, given.examples, given.data)
        folder = given.out / network
        folder.mkdir(parents=True, exist_ok=True)
        if given.data:
            np.savez_compressed(folder / "data.npz", x=data.x_train, y=data.y_train)
        export(prepare(config, data, described["train"]), described, given.compared_steps, folder)


def prepare(config: Config, data: Data, train: tuple[int, int]) -> Exported:
    """Builds the model and its trainer, and chooses what it is trained on.

    Args:
      config: the settings of the training.
      data: its training examples may be followed by those for testing.
      train: where the training examples, validation included, begin and end.
    """
    model = prune_low_magnitude(models.build(config, data.input_shape, data.classes))
    models.compile_model(model, config)
    weights = models.initial_weights(model, np.random.default_rng(config.seed))
    shuffled = np.random.default_rng((config.seed, 1)).permutation(np.arange(*train))
    dense = ones({name: np.shape(weights[name]) for name in masked(model)})
    plan = TrainingSpec(weights=weights,
                masks=prune({name: np.abs(weights[name]) for name in dense}, dense,
                            _CHECKED_FRACTION),
                train=np.sort(shuffled[config.validation_size:]),
                validation=np.sort(shuffled[:config.validation_size]),
                order=np.random.default_rng((config.seed, 2)), steps=config.steps,
                validation_every=config.validation_every, batch_size=config.batch_size)
    return Exported(config, model, data, Trainer(model, data), plan)


def export(exported: Exported, described: dict[str, Any], steps: int,
           folder: pathlib.Path) -> None:
    """Writes one network's files.

    Args:
      exported: the network.
      described: what `signature.json` is to say of the data.
      steps: of each interval that is compared, at most.
      folder: an existing folder.
    """
    model, plan = exported.model, exported.plan
    # The program takes `steps` of the rows of indices, so comparing need not take them all.
    compared = [dataclasses.replace(interval, count=min(steps, interval.count))
                for interval in intervals(plan)]
    fresh = rewinding.Snapshot.of(model)
    start = dataclasses.replace(fresh, weights=dict(plan.weights))
    rewinding.assign_masks(model, plan.masks)
    start.restore(model, plan.masks)
    program, arguments = program_of(exported.trainer), arguments_of(exported, compared[0])
    concrete = program.get_concrete_function(*arguments)
    text = program.experimental_get_compiler_ir(*arguments)(stage="stablehlo")
    with gzip.open(folder / "program.mlir.gz", "wt") as file:
        file.write(_without_locations(text))
    given = [named_arguments(exported, concrete, interval) for interval in compared]
    parameters, outputs = describe(
        exported.model, exported.data, given[0], concrete, text)
    variables = captured_variables(concrete)
    stored = {f"{row['kind']} {row['name']}": variables[number].numpy()
              for number, row in enumerate(parameters) if number in variables}
    # Survivors and pruned alike: theta_0, which a search begins from.
    stored |= {f"weight {name}": plan.weights[name] for name in plan.masks}
    stored |= {f"argument {name}": np.stack([values[name] for values in given])
               for name in given[0]}
    np.savez_compressed(folder / "inputs.npz", **stored)
    signature = {
        "network": exported.config.network, "settings": exported.config.to_dict(),
        "versions": provenance.versions(), "data": described,
        "work": floor.work(model, exported.config), "parameters": parameters, "outputs": outputs,
        "fractions": {name: 0.1 if item.prunable.output else 0.2
                      for name, item in masked(model).items()}}
    (folder / "signature.json").write_text(json.dumps(signature, indent=1))

    assigned = {f"{row['kind']} {row['name']}": variables[number]
                for number, row in enumerate(parameters) if "output" in row}
    _write_expected(exported, compared, start, assigned, folder)
    print(f"{folder}: {len(parameters)} parameters, {len(text):,} characters", flush=True)


def _write_expected(exported: Exported, compared: list[Interval], start: rewinding.Snapshot,
                    assigned: dict[str, Any], folder: pathlib.Path) -> None:
    # What TensorFlow computes here, from the start: after one step, and after the intervals.
    def values(stage: str) -> dict[str, Array]:
        return {f"{stage}/{name}": sample(variable.numpy(), ENTRIES)
                for name, variable in assigned.items()}

    reference = exported.trainer.feed.interval
    one = dataclasses.replace(compared[0], count=1)
    logs = {"one step": [_floats(reference(*arguments_of(exported, one)))]}
    expected = values("one step")
    start.restore(exported.model, exported.plan.masks)
    logs["intervals"] = [_floats(reference(*arguments_of(exported, interval)))
                         for interval in compared]
    np.savez_compressed(folder / "expected.npz", **expected, **values("intervals"))
    (folder / "expected.json").write_text(json.dumps(logs, indent=1))


def program_of(trainer: Trainer) -> Any:
    """One interval, for XLA: on a CPU the trainer itself leaves convolutions to TensorFlow."""
    return tf.function(trainer.feed.interval.python_function, jit_compile=True)


def arguments_of(exported: Exported, interval: Interval) -> tuple[Any, ...]:
    """What it is called with: tensors, or named tuples of them."""
    plan = exported.plan
    return interval.batches(plan.seed), tf.constant(plan.validation, tf.int32)


def named_arguments(exported: Exported, concrete: Any, interval: Interval) -> dict[str, Array]:
    """The same by name, in the order of the program's parameters."""
    found = {}
    for name, value in zip(concrete.function_type.parameters, arguments_of(exported, interval),
                           strict=True):
        parts = value._asdict() if hasattr(value, "_asdict") else {name: value}
        found |= {part: tensor.numpy() for part, tensor in parts.items()}
    return found


def _without_locations(text: str) -> str:
    # Where each operation came from: half of the text, and folders of this machine.
    kept = [line for line in text.splitlines() if not line.startswith("#loc")]
    return re.sub(r' loc\((#loc\d*|"[^"]*"|fused\[[^]]*\])\)', "", "\n".join(kept)) + "\n"


def _floats(logs: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}


def _data(config: Config, examples: int, real: bool) -> tuple[Data, dict[str, Any]]:
    # Examples for testing follow those to train on: one array in memory serves both.
    if real:
        data = data_sets.load(config.dataset)
        x = np.concatenate([data.x_train, data.x_test])
        y = np.concatenate([data.y_train, data.y_test])
        train = len(data.y_train)
    else:
        described = {"shape": [examples, *_SHAPES[config.dataset]], "classes": 10,
                     "seed": config.seed}
        x, y = draw(described)
        train = examples - min(examples // 6, 2 * config.validation_size)
    described = {"name": config.dataset if real else DRAWN, "shape": list(x.shape), "classes": 10,
                 "seed": config.seed, "train": [0, train], "test": [train, len(y)],
                 "sha256": digest(x, y)}
    return Data(x, y, x[train:], y[train:], classes=10), described


if __name__ == "__main__":
    main()
