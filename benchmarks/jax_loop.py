"""The loop by hand in JAX: an interval's steps are one `lax.fori_loop`, the data on the device."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.task import Job, kernels, masks
from benchmarks.timing import milliseconds, Stopwatch, WARM_UP

_TOGETHER = 1000  # Examples validated at a time, as in the package.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-7


def measure(name: str, job: Job) -> dict[str, float]:
    """Times `jax_loop`."""
    task = job.task
    kept = {name: jnp.asarray(mask, jnp.float32) for name, mask in masks(task.kernels).items()}
    start = {name: {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(kernel.shape[-1])}
             for name, kernel in kernels(task).items()}
    x, y = jnp.asarray(job.x), jnp.asarray(job.y)
    # On a CPU, XLA computes the gradient of a convolution some forty times slower inside a
    # loop than outside (jax issue 12868), so that Conv-2 takes one step a call.
    together = task.interval if task.network == "lenet_300_100" else 1
    steps = jax.jit(functools.partial(_steps, task.learning_rate))
    validate = jax.jit(_validate)
    seconds = []
    for examples in (1, task.validation):
        watch, batches = Stopwatch(), job.intervals()
        zeros = jax.tree.map(jnp.zeros_like, start)
        state, best, best_weights = (start, zeros, zeros, jnp.zeros(())), np.inf, None
        for _ in range(WARM_UP + task.intervals):
            for part in np.split(next(batches), task.interval // together):
                state, _ = steps(state, (x, y, kept), jnp.asarray(part))
            validated = validate(state[0], (x, y, kept), jnp.arange(examples))
            loss = float(validated["val_loss"])
            if loss < best:
                best, best_weights = loss, state[0]
            watch()
        assert best_weights is not None
        seconds.append(watch.interval)
    return milliseconds(task, *seconds)


def _steps(learning_rate: float, state: Any, data: Any, batches: Any) -> Any:
    x, y, kept = data

    def step(index: Any, carried: Any) -> Any:
        (weights, first, second, count), total, correct = carried
        chosen = batches[index]
        gradients, (loss, right) = jax.grad(_loss, has_aux=True)(weights, kept, x[chosen],
                                                                 y[chosen])
        count = count + 1
        first = jax.tree.map(lambda m, g: _BETA1 * m + (1 - _BETA1) * g, first, gradients)
        second = jax.tree.map(lambda v, g: _BETA2 * v + (1 - _BETA2) * g * g, second, gradients)
        rate = learning_rate * jnp.sqrt(1 - _BETA2 ** count) / (1 - _BETA1 ** count)
        weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + _EPSILON),
                               weights, first, second)
        return (weights, first, second, count), total + loss, correct + right

    begin = (state, jnp.zeros(()), jnp.zeros((), jnp.int32))
    state, total, correct = (step(0, begin) if len(batches) == 1
                             else lax.fori_loop(0, len(batches), step, begin))
    return state, {"loss": total / len(batches), "accuracy": correct / batches.size}


def _validate(weights: Any, data: Any, validation: Any) -> Any:
    x, y, kept = data
    chunks = validation.reshape(-1, min(_TOGETHER, len(validation)))
    losses, right = lax.map(lambda chunk: _loss(weights, kept, x[chunk], y[chunk])[1], chunks)
    return {"val_loss": losses.mean(), "val_accuracy": right.sum() / len(validation)}


def _loss(weights: Any, kept: Any, x: Any, y: Any) -> Any:
    logits = _logits(weights, kept, x.astype(jnp.float32) / 255)
    loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1).mean()
    return loss, (loss, (logits.argmax(axis=1) == y).sum())


def _logits(weights: Any, kept: Any, x: Any) -> Any:
    names = list(kept)
    for name in names:
        kernel = weights[name]["kernel"] * kept[name]
        if kernel.ndim == 4:
            x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME",
                                         dimension_numbers=("NHWC", "HWIO", "NHWC"))
        else:
            if x.ndim == 4:
                x = _pooled(x) if "conv2" in names else x
                x = x.reshape(len(x), -1)
            x = x @ kernel
        x = x + weights[name]["bias"]
        if name != names[-1]:
            x = jax.nn.relu(x)
    return x


def _pooled(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
