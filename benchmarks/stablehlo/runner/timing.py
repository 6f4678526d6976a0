"""Timing: milliseconds a step, and what the device could do at best."""

import statistics
import time
from typing import Any

import numpy as np

from .program import Interval


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
