"""The loop by hand in PyTorch: masks multiplied in, fused Adam, the data in tensors."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.task import Job, kernels, masks
from benchmarks.timing import milliseconds, Stopwatch, WARM_UP

_TOGETHER = 1000  # Examples validated at a time, as in the package.


def measure(name: str, job: Job) -> dict[str, float]:
    """Times `torch_loop`."""
    if job.threads:
        torch.set_num_threads(job.threads)
    task = job.task
    x = torch.from_numpy(job.x).permute(0, 3, 1, 2)  # Its convolutions put channels first.
    y = torch.from_numpy(job.y).long()
    kept = {name: _arranged(mask.astype(np.float32)) for name, mask in masks(task.kernels).items()}
    seconds = []
    for examples in (1, task.validation):
        weights = {name: {"kernel": _arranged(kernel).requires_grad_(),
                          "bias": torch.zeros(kernel.shape[-1], requires_grad=True)}
                   for name, kernel in kernels(task).items()}
        leaves = [leaf for layer in weights.values() for leaf in layer.values()]
        adam = torch.optim.Adam(leaves, task.learning_rate, eps=1e-7, fused=True)
        watch, batches, best = Stopwatch(), job.intervals(), np.inf
        for _ in range(WARM_UP + task.intervals):
            total, correct = torch.zeros(()), torch.zeros((), dtype=torch.long)
            for chosen in torch.from_numpy(next(batches)):
                loss, right = _loss(weights, kept, x[chosen], y[chosen])
                adam.zero_grad()
                loss.backward()
                adam.step()
                total += loss.detach()
                correct += right
            with torch.no_grad():
                losses = [float(_loss(weights, kept, x[chunk], y[chunk])[0])
                          for chunk in torch.arange(examples).split(_TOGETHER)]
            if np.mean(losses) < best:
                best, _best = np.mean(losses), [leaf.detach().clone() for leaf in leaves]
            watch()
        seconds.append(watch.interval)
    return milliseconds(task, *seconds)


def _arranged(kernel: np.ndarray) -> torch.Tensor:
    # From (height, width, in, out) or (in, out) to PyTorch's order.
    order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
    return torch.from_numpy(np.ascontiguousarray(kernel.transpose(order)))


def _loss(weights: Any, kept: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    logits = _logits(weights, kept, x.float() / 255)
    return functional.cross_entropy(logits, y), (logits.argmax(dim=1) == y).sum()


def _logits(weights: Any, kept: Any, x: torch.Tensor) -> torch.Tensor:
    names = list(kept)
    for name in names:
        kernel, bias = weights[name]["kernel"] * kept[name], weights[name]["bias"]
        if kernel.ndim == 4:
            x = functional.conv2d(x, kernel, bias, padding="same")
        else:
            if x.ndim == 4:
                x = functional.max_pool2d(x, 2) if "conv2" in names else x
                x = x.flatten(1)
            x = functional.linear(x, kernel, bias)
        if name != names[-1]:
            x = functional.relu(x)
    return x
