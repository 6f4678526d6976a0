"""Runs exported intervals through JAX's XLA client; needs JAX and NumPy, nothing else.

    python run.py OUT                                compare with TensorFlow, and time
    python run.py OUT --levels 15 --steps 6000       a whole search of 15 levels

OUT is what `benchmarks.stablehlo.export` wrote, a folder for each network.  The file runs
alone: a machine that it is copied to needs neither TensorFlow nor lth_keras.
"""

import argparse
import csv
import fractions
import gzip
import hashlib
import json
import pathlib
import re
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

DRAWN = "drawn"  # Data of random pixels and classes.
ENTRIES = 2**18  # Of a variable that are compared, at most.

Arrays = dict[str, np.ndarray]
_STATE = ("statistic", "slot", "optimizer", "metric", "mask", "weight")


class Interval:
    """The compiled program of one network, and the state that it moves on.

    The state lies on the device.  What the program replaces is donated to it, so a state is
    one set of buffers, however many intervals it goes through.

    Args:
      folder: of one network.
      precision: "default" for that of the device (on some, products of float32 in fewer
        bits), or "highest" for float32 throughout.
    """

    def __init__(self, folder: pathlib.Path, precision: str = "default"):
        self.signature = json.loads((folder / "signature.json").read_text())
        self.parameters = self.signature["parameters"]
        self.keys = [f"{row['kind']} {row['name']}" for row in self.parameters]
        self.initial: Arrays = dict(np.load(folder / "inputs.npz"))
        self.masks = {name.removeprefix("mask "): array for name, array in self.initial.items()
                      if name.startswith("mask ")}
        with gzip.open(folder / "program.mlir.gz", "rt") as file:
            text = file.read()
        if precision == "highest":
            text = re.sub(r"\bDEFAULT\b", "HIGHEST", text)
        began = time.perf_counter()
        self._program = compile_text(text)
        self.compilation = time.perf_counter() - began
        self._place_data(folder)

    def _place_data(self, folder: pathlib.Path) -> None:
        described = self.signature["data"]
        if described["name"] == DRAWN:
            x, y = draw(described)
        else:
            stored = np.load(folder / "data.npz")
            x, y = stored["x"], stored["y"]
        if digest(x, y) != described["sha256"]:
            raise ValueError("The data must be those of the export. Received: others; the two "
                             "NumPy draw differently, or data.npz was changed. Export again.")
        self._data = {"data x": put(x), "data y": put(y)}

    def restart(self, masks: Arrays) -> None:
        """Back to theta_0 under masks, a fresh optimizer and fresh statistics.

        Args:
          masks: weight name -> 0/1 array.
        """
        values = {key: self.initial[key] for key in self.keys
                  if key.partition(" ")[0] in _STATE}
        for name, mask in masks.items():
            weight = self.initial[f"weight {name}"]
            values[f"weight {name}"] = np.where(mask != 0, weight, weight.dtype.type(0))
            values[f"mask {name}"] = mask.astype(self.initial[f"mask {name}"].dtype)
        self.state = {key: put(value) for key, value in values.items()}

    def run(self, arguments: Arrays) -> dict[str, float]:
        """One interval; the state goes on.

        Args:
          arguments: argument name -> value: indices of shape (steps, batch_size), count of
            steps to take, validation: indices; what is left out is as it was exported.

        Returns:
          The losses and metrics.
        """
        given = {f"argument {name}": value for name, value in arguments.items()}
        buffers = []
        for key, row in zip(self.keys, self.parameters, strict=True):
            if row["kind"] == "argument":
                value = given.get(key, self.initial[key][0])
                buffers.append(put(np.asarray(value, row["dtype"]).reshape(row["shape"])))
            else:
                buffers.append(self._data[key] if row["kind"] == "data" else self.state[key])
        results = execute(self._program, buffers)
        for key, row in zip(self.keys, self.parameters, strict=True):
            if "output" in row:
                self.state[key] = results[row["output"]]
        logs = results[:len(self.signature["outputs"])]
        return dict(zip(self.signature["outputs"], map(float, logs), strict=True))

    def exported_arguments(self, number: int) -> Arrays:
        """The arguments of one of the intervals that TensorFlow was given."""
        return {key.removeprefix("argument "): value[number]
                for key, value in self.initial.items() if key.startswith("argument ")}


def compile_text(text: str) -> Any:
    """An executable of JAX's client for the first device."""
    import jax
    import jax._src.lib  # Where jaxlib's own classes are, public ones there are not.
    jax.config.update("jax_enable_x64", True)  # An optimizer counts its steps in 64 bits.
    client = jax._src.lib._jax
    device = jax.devices()[0]
    return device.client.compile_and_load(text, client.DeviceList((device,)),
                                          client.CompileOptions())


def execute(program: Any, buffers: list[Any]) -> list[Any]:
    """The outputs of an executable, on the device."""
    results = program.execute_sharded(buffers).disassemble_into_single_device_arrays()
    return [shards[0] for shards in results]


def put(value: Any) -> Any:
    """An array on the first device."""
    import jax
    return jax.device_put(value, jax.devices()[0])


def draw(described: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Random pixels and classes, of a shape and seed as `signature.json` has them."""
    rng, shape = np.random.default_rng(described["seed"]), described["shape"]
    return (rng.integers(0, 256, shape, np.uint8),
            rng.integers(0, described["classes"], shape[0], np.int32))


def digest(x: np.ndarray, y: np.ndarray) -> str:
    """SHA-256 of a data set."""
    return hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()


def sample(array: np.ndarray, most: int) -> np.ndarray:
    """Every n-th entry of an array, with the least n that leaves at most so many."""
    return np.ravel(array)[::max(1, -(-np.size(array) // most))]


# Comparing.

def compare(interval: Interval, folder: pathlib.Path, tolerance: float) -> dict[str, Any]:
    """The differences from what TensorFlow computed, after one step and after intervals.

    A variable's difference is taken relative to how far it moved: the norm of the difference
    over the norm of the movement, which is about 1 if it is some other variable's value.

    Returns:
      stage -> absolute: largest difference of an entry; relative: of an entry, to the
      largest entry of its variable; movement: largest difference relative to movement, and
      `worst`, the variable it is of; rounding: the same between two runs here, one from
      weights whose last bit is another; loss: largest
      relative difference of a loss or metric; passed: whether movement is within the
      tolerance, and loss within a hundredth of it.
    """
    expected = np.load(folder / "expected.npz")
    logs = json.loads((folder / "expected.json").read_text())
    report = {}
    for stage, theirs in logs.items():
        start, _ = _after(interval, stage, 0)
        ours, given = _after(interval, stage, len(theirs))
        nudged, _ = _after(interval, stage, len(theirs), nudge=True)
        rows = [_difference(key, value, expected[f"{stage}/{key}"], start[key])
                for key, value in ours.items()]
        rounding = [_difference(key, nudged[key], value, start[key])["movement"]
                    for key, value in ours.items()]
        loss = max(abs(mine[name] - value) / max(abs(value), 1e-6)
                   for mine, other in zip(given, theirs, strict=True)
                   for name, value in other.items())
        worst = max(rows, key=lambda row: row["movement"])
        report[stage] = {
            "absolute": max(row["absolute"] for row in rows),
            "relative": max(row["relative"] for row in rows),
            "movement": worst["movement"], "worst": worst["name"],
            "rounding": max(rounding), "loss": loss,
            "passed": bool(worst["movement"] <= tolerance and loss <= tolerance / 100)}
    return report


def _after(interval: Interval, stage: str, number: int,
           nudge: bool = False) -> tuple[Arrays, list[dict[str, float]]]:
    # What the program assigns, after so many intervals from the start, and the logs of each.
    interval.restart(interval.masks)
    if nudge:
        rng = np.random.default_rng(0)
        for name in interval.masks:
            weight = np.asarray(interval.state[f"weight {name}"])
            aside = np.nextafter(weight, rng.choice(np.float32([-1, 1]), weight.shape))
            interval.state[f"weight {name}"] = put(np.where(weight != 0, aside, weight))
    logs = []
    for index in range(number):
        arguments = interval.exported_arguments(index)
        if stage == "one step":
            arguments["count"] = np.asarray(1)
        logs.append(interval.run(arguments))
    return {key: sample(np.asarray(interval.state[key]), ENTRIES)
            for key, row in zip(interval.keys, interval.parameters, strict=True)
            if "output" in row}, logs


def _difference(key: str, ours: np.ndarray, theirs: np.ndarray,
                start: np.ndarray) -> dict[str, Any]:
    ours, theirs, start = (array.astype(np.float64) for array in (ours, theirs, start))
    absolute = float(np.abs(ours - theirs).max())
    off, moved = np.linalg.norm(ours - theirs), np.linalg.norm(theirs - start)
    return {"name": key, "absolute": absolute,
            "relative": absolute / max(float(np.abs(theirs).max()), 1e-30),
            "movement": float(off / moved) if moved else float(off > 0)}


# Timing.

def measure(interval: Interval, repeats: int, most_steps: int,
            rates: tuple[float, float]) -> dict[str, float]:
    """Milliseconds a step, and what the device could do at best.

    Args:
      interval: the program.
      repeats: intervals to take the median of.
      most_steps: to take of an interval.
      rates: what `device_rates` gave.

    Returns:
      step_ms: without validation, (T(N) - T(1)) / (N - 1) for an interval of N steps;
      interval_ms: with its share of validation, T(N) / N; validation_ms; floors:
      arithmetic_ms and memory_ms (parameters, activations).
    """
    arguments = interval.exported_arguments(0)
    steps, work = min(most_steps, len(arguments["indices"])), interval.signature["work"]
    interval.restart(interval.masks)

    def median(count: int) -> float:
        taken = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            interval.run({**arguments, "count": np.asarray(count)})
            taken.append(1e3 * (time.perf_counter() - began))
        return statistics.median(taken[1:])  # The first one warms up.

    whole, single = median(steps), median(1)
    step = (whole - single) / max(1, steps - 1)
    flops, bytes_second = rates
    return {"steps": steps, "step_ms": step, "interval_ms": whole / steps,
            "validation_ms": single - step, "compilation_s": interval.compilation,
            "arithmetic_ms": 1e3 * work["flops"] / flops,
            "memory_ms": 1e3 * (work["bytes_parameters"] + work["bytes_activations"])
            / bytes_second}


def device_rates(precision: str, repeats: int = 5) -> tuple[float, float]:
    """FLOP/s of a large float32 product, and bytes/s of reading and writing a large array."""
    import jax
    import jax.numpy as jnp
    large = jax.devices()[0].platform != "cpu"
    size, entries = (8192, 2**28) if large else (2048, 2**26)
    square = jnp.ones((size, size), jnp.float32) / size
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=precision))
    # In place, so that no time goes into new memory.
    increment = jax.jit(lambda a: a + 1, donate_argnums=0)
    seconds = _least_seconds(product, square, repeats, again=False)
    passed = _least_seconds(increment, jnp.zeros(entries, jnp.float32), repeats, again=True)
    return 2 * size**3 / seconds, 8 * entries / passed


def _least_seconds(function: Any, value: Any, repeats: int, again: bool) -> float:
    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        result = function(value).block_until_ready()
        taken.append(time.perf_counter() - began)
        value = result if again else value
    return min(taken[1:])


# A whole search.

def search(interval: Interval, levels: int, steps: int, fraction: float | dict[str, float],
           seed: int) -> Iterator[dict[str, float]]:
    """Trains, prunes and rewinds level after level, in one compiled program.

    Args:
      interval: the program.
      levels: how many networks to train; the first is dense.
      steps: optimizer steps of each.
      fraction: share of each weight's remaining entries that is pruned, one or by name.
      seed: of the order of the examples.

    Yields:
      A row a level: level, density, early_stop_step (of least validation loss, the first of
      equal ones), val_loss_min, val_accuracy (at that step), test_accuracy_early_stop,
      ms_per_step (all included: validation, transfers, testing).
    """
    described, validation = interval.signature["data"], interval.initial["argument validation"][0]
    train = np.setdiff1d(np.arange(*described["train"]), validation)
    rows, batch = interval.initial["argument indices"].shape[1:]
    masks = {name: np.ones_like(mask) for name, mask in interval.masks.items()}
    for level in range(levels):
        interval.restart(masks)
        order = batches(train, rows, batch, steps, np.random.default_rng((seed, level)))
        best: dict[str, Any] = {"val_loss": np.inf}
        began, step = time.perf_counter(), 0
        for count, indices in order:
            logs = interval.run({"indices": indices, "count": count, "first": step})
            step += count
            if logs["val_loss"] < best["val_loss"]:
                best = {**logs, "step": step, "state": _copied(interval.state)}
        if not np.isfinite(best["val_loss"]):
            raise ValueError("A training must stay finite. Received: no finite validation loss "
                             f"at level {level}.")
        trained = {name: np.asarray(interval.state[f"weight {name}"]) for name in masks}
        interval.state.update(best["state"])
        tested = _test_accuracy(interval, described["test"], len(validation))
        milliseconds = 1e3 * (time.perf_counter() - began) / steps
        yield {"level": level, "density": density(masks), "early_stop_step": best["step"],
               "val_loss_min": best["val_loss"], "val_accuracy": best["val_accuracy"],
               "test_accuracy_early_stop": tested, "ms_per_step": milliseconds}
        masks = {name: prune(np.abs(trained[name]), mask,
                             fraction[name] if isinstance(fraction, dict) else fraction)
                 for name, mask in masks.items()}


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    # The next interval takes the state's own buffers.
    import jax.numpy as jnp
    return {key: jnp.copy(value) for key, value in state.items()
            if key.startswith(("weight ", "statistic "))}


def _test_accuracy(interval: Interval, test: list[int], together: int) -> float:
    # An interval of no steps validates, and the examples for testing are in the data too.
    portions = [np.arange(begin, begin + together)
                for begin in range(test[0], test[1] - together + 1, together)]
    found = [interval.run({"count": 0, "validation": portion})["val_accuracy"]
             for portion in portions]
    return float(np.mean(found)) if found else float("nan")


def prune(scores: np.ndarray, mask: np.ndarray, fraction: float) -> np.ndarray:
    """Drops the k lowest scores of what remains, k = round(fraction x remaining).

    As `lth_keras.prune`, which cannot be imported without TensorFlow: a half goes to the even
    number, equal scores by position.
    """
    flat = (mask != 0).ravel()
    positions = np.flatnonzero(flat)
    drop = round(fractions.Fraction(repr(float(fraction))) * len(positions))
    flat[positions[np.argsort(scores.ravel()[positions], kind="stable")[:drop]]] = False
    return flat.reshape(mask.shape).astype(mask.dtype)


def density(masks: Arrays) -> float:
    """The share of prunable weights that is kept."""
    return (sum(int(np.count_nonzero(mask)) for mask in masks.values())
            / sum(mask.size for mask in masks.values()))


def batches(train: np.ndarray, rows: int, batch: int, steps: int,
            order: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    """The steps and the examples of each interval, as `lth_keras.train.intervals` has them."""
    waiting = np.empty(0, np.int64)
    for first in range(0, steps, rows):
        while len(waiting) < rows * batch:
            waiting = np.concatenate([waiting, order.permutation(train)])
        taken, waiting = np.split(waiting, [rows * batch])
        yield min(rows, steps - first), taken.reshape(rows, batch)


# The command.

def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--networks", help="of OUT's folders; by default all")
    parser.add_argument("--precision", choices=("default", "highest"), default="default")
    parser.add_argument("--tolerance", type=float, default=0.1,
                        help="of movement; of losses it is a hundredth of that")
    parser.add_argument("--intervals", type=int, default=5, help="intervals to time")
    parser.add_argument("--timed_steps", type=int, default=10**6,
                        help="of an interval, where all would take long")
    parser.add_argument("--levels", type=int, help="search so many levels instead")
    parser.add_argument("--steps", type=int, default=1000, help="steps of each level")
    parser.add_argument("--fraction", type=float,
                        help="pruned of what remains; by default 0.2, of the output layer 0.1")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the examples")
    given = parser.parse_args()
    found = sorted(path.parent.name for path in given.out.glob("*/signature.json"))
    networks = given.networks.split(",") if given.networks else found
    for network in networks:
        if network not in found:
            parser.error(f"{network} must be one of {', '.join(found) or 'none'} in {given.out}.")
    passed = _search_all(given, networks) if given.levels else _measure_all(given, networks)
    raise SystemExit(0 if passed else 1)


def _measure_all(given: argparse.Namespace, networks: list[str]) -> bool:
    import jax
    rates = device_rates(given.precision)
    device = jax.devices()[0]
    about = {"device": device.device_kind, "platform": device.platform, "jax": jax.__version__,
             "precision": given.precision, "tolerance": given.tolerance,
             "flops_per_second": rates[0], "bytes_per_second": rates[1]}
    print(f"{device.device_kind} ({device.platform}), jax {jax.__version__}, precision "
          f"{given.precision}: {rates[0] / 1e9:,.0f} GFLOP/s, {rates[1] / 1e9:,.1f} GB/s")
    results: dict[str, Any] = {}
    for network in networks:
        interval = Interval(given.out / network, given.precision)
        results[network] = {"compared": compare(interval, given.out / network, given.tolerance),
                            "measured": measure(interval, given.intervals, given.timed_steps,
                                                rates)}
        (given.out / "results.json").write_text(
            json.dumps({**about, "networks": results}, indent=1) + "\n")
    print(f"\n{'compared with TensorFlow':<28}{'absolute':>10}{'relative':>10}{'movement':>10}"
          f"{'losses':>10}")
    for network, result in results.items():
        for stage, row in result["compared"].items():
            print(f"{network + ', ' + stage:<28}"
                  + "".join(f"{row[name]:>10.1e}" for name in
                            ("absolute", "relative", "movement", "rounding", "loss"))
                  + ("  ok" if row["passed"] else f"  FAILED: {row['worst']}"))
    columns = ("step_ms", "interval_ms", "arithmetic_ms", "memory_ms", "validation_ms",
               "compilation_s")
    print(f"\n{'':<16}" + "".join(f"{name:>15}" for name in columns) + f"{'x floor':>9}")
    for network, result in results.items():
        row = result["measured"]
        floor = max(row["arithmetic_ms"], row["memory_ms"])
        print(f"{network:<16}" + "".join(f"{row[name]:>15.3f}" for name in columns)
              + f"{row['step_ms'] / floor:>9.1f}")
    return all(row["passed"] for result in results.values()
               for row in result["compared"].values())


def _search_all(given: argparse.Namespace, networks: list[str]) -> bool:
    for network in networks:
        interval = Interval(given.out / network, given.precision)
        fraction = given.fraction if given.fraction is not None \
            else interval.signature["fractions"]
        print(f"{network}: compiled once, in {interval.compilation:.1f} s")
        with (given.out / network / "levels.csv").open("w", newline="") as file:
            writer = None
            for row in search(interval, given.levels, given.steps, fraction, given.seed):
                if writer is None:
                    writer = csv.DictWriter(file, list(row))
                    writer.writeheader()
                    print("".join(f"{name:>26}" for name in row))
                writer.writerow(row)
                file.flush()
                print("".join(f"{value:>26.6g}" for value in row.values()), flush=True)
    return True


if __name__ == "__main__":
    main()
