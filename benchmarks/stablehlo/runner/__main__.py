"""The command: `python -m runner OUT`."""

import argparse
import csv
import json
import pathlib
from typing import Any

from .compare import compare
from .program import Interval
from .search import search
from .timing import device_rates, measure


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m runner",
        description="Runs exported intervals through JAX's XLA client.")
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
    return _show(results)


def _show(results: dict[str, Any]) -> bool:
    # The tables; whether every comparison passed.
    figures = ("absolute", "relative", "movement", "rounding", "loss")
    print(f"\n{'compared with TensorFlow':<28}" + "".join(f"{name:>10}" for name in figures))
    for network, result in results.items():
        for stage, row in result["compared"].items():
            print(f"{network + ', ' + stage:<28}"
                  + "".join(f"{row[name]:>10.1e}" for name in figures)
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
