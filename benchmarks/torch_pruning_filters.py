"""Torch-Pruning beside this package: `python -m benchmarks.torch_pruning_filters`.

The same ResNet-56 is built in both, half of the filters of every group are pruned by their L1 norm,
and the smaller network is built.  Prints one line of JSON: whether both found the same groups of
layers, what is left by each one's count, and the seconds that each took, to find the groups and to
build the smaller network.  Needs torch and torch-pruning, which the package does not.
"""

import json
import time
from typing import Any

import numpy as np

SHAPE, CLASSES, SHARE, ROUNDS = (32, 32, 3), 10, 0.5, 5
STAGES, BLOCKS = (16, 32, 64), 9


def main() -> None:
    """The entry point."""
    ours, theirs = with_this_package(), with_torch_pruning()
    print(json.dumps({
        "same groups": ours.pop("groups") == theirs.pop("groups"),
        "same parameters": ours["parameters"] == theirs["parameters"],
        "same multiply-adds": ours["macs"] == theirs["macs"],
        **{f"lth_keras {name}": value for name, value in ours.items()},
        **{f"torch_pruning {name}": value for name, value in theirs.items()}}))


def with_this_package() -> dict[str, Any]:
    """What is left of tf_keras' model, its groups, and the seconds of the quickest round."""
    import tf_keras as keras

    import lth_keras as lth
    from lth_keras.core.next_masks import PruningRule
    from lth_keras.experiments.training import networks
    from lth_keras.files.engines import engine_of
    seconds = []
    for _ in range(ROUNDS):
        model = networks.get("resnet56")(SHAPE, CLASSES, keras=keras)
        began = time.perf_counter()
        found = engine_of(model).network(lth.prune_low_magnitude(model, structure="filters"))
        rule = PruningRule.of([*found.prunable.values()], found.shapes, fraction=SHARE,
                              criterion="l1", structures=found.structures)
        weights = found.weights()
        ones = {name: np.ones(shape, np.uint8) for name, shape in found.shapes.items()}
        _, masks = rule.next_start(weights, ones, weights, np.random.default_rng(0))
        found.assign(weights, masks)
        small = lth.compact(found.model).model
        seconds.append(time.perf_counter() - began)
    trained = sum(int(np.prod(each.shape)) for each in small.trainable_variables)
    return {"parameters": trained, "macs": lth.profile(small).macs, "seconds": min(seconds),
            "groups": {(frozenset(group.layers), group.size) for group in rule.groups}}


def with_torch_pruning() -> dict[str, Any]:
    """The same of torch's model with Torch-Pruning."""
    import torch
    import torch_pruning
    example = torch.zeros(1, SHAPE[2], *SHAPE[:2])
    seconds = []
    for _ in range(ROUNDS):
        model = _resnet(torch)
        ignored = [dict(model.named_modules())["fc"]]
        began = time.perf_counter()
        pruner = torch_pruning.pruner.MagnitudePruner(
            model, example, importance=torch_pruning.importance.MagnitudeImportance(p=1),
            pruning_ratio=SHARE, ignored_layers=ignored)
        pruner.step()
        seconds.append(time.perf_counter() - began)
    macs, parameters = torch_pruning.utils.count_ops_and_params(model, example)
    # Its count of multiply-adds has those of normalisations and poolings too.
    return {"parameters": int(parameters), "macs": _macs(torch, model, example),
            "macs by its own count": int(macs), "seconds": min(seconds),
            "groups": _groups(torch, torch_pruning, _resnet(torch), example)}


def _groups(torch: Any, torch_pruning: Any, model: Any, example: Any) -> set[Any]:
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)
    names = {id(module): name for name, module in model.named_modules()}
    last = dict(model.named_modules())["fc"]
    found = set()
    for group in graph.get_all_groups(root_module_types=[torch.nn.Conv2d, torch.nn.Linear],
                                      ignored_layers=[last]):
        makers = {names[id(item.dep.target.module)] for item in group
                  if "out_channels" in item.dep.handler.__name__
                  and isinstance(item.dep.target.module, (torch.nn.Conv2d, torch.nn.Linear))}
        found.add((frozenset(makers), len(group[0].idxs)))
    return found


def _macs(torch: Any, model: Any, example: Any) -> int:
    # Of convolutions and dense layers alone, as the literature counts.
    total = 0

    def count(module: Any, _: Any, output: Any) -> None:
        nonlocal total
        places = output.shape[2:].numel() if output.dim() == 4 else 1
        total += places * module.weight.numel()
    handles = [module.register_forward_hook(count) for module in model.modules()
               if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))]
    with torch.no_grad():
        model.eval()(example)
    for handle in handles:
        handle.remove()
    return total


def _resnet(torch: Any) -> Any:
    # The network `resnet56` of this package, with the same names of layers.
    nn = torch.nn

    class Network(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.conv_norm = self._pair(SHAPE[2], STAGES[0])
            inputs = STAGES[0]
            for stage, filters in enumerate(STAGES, start=1):
                for block in range(1, BLOCKS + 1):
                    name = f"stage{stage}_block{block}"
                    stride = 2 if stage > 1 and block == 1 else 1
                    self._add(f"{name}_conv1", inputs, filters, stride)
                    self._add(f"{name}_conv2", filters, filters)
                    if stride > 1:
                        self._add(f"{name}_shortcut", inputs, filters, stride, 1)
                    inputs = filters
            self.fc = nn.Linear(inputs, CLASSES)

        def _pair(self, inputs: int, outputs: int, stride: int = 1, size: int = 3) -> Any:
            return (nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
                    nn.BatchNorm2d(outputs))

        def _add(self, name: str, *arguments: int) -> None:
            for end, module in zip(("", "_norm"), self._pair(*arguments), strict=True):
                self.add_module(name + end, module)

        def _of(self, name: str, x: Any) -> Any:
            return getattr(self, f"{name}_norm")(getattr(self, name)(x))

        def forward(self, x: Any) -> Any:
            x = torch.relu(self._of("conv", x))
            for stage in range(1, len(STAGES) + 1):
                for block in range(1, BLOCKS + 1):
                    name = f"stage{stage}_block{block}"
                    y = self._of(f"{name}_conv2", torch.relu(self._of(f"{name}_conv1", x)))
                    if hasattr(self, f"{name}_shortcut"):
                        x = self._of(f"{name}_shortcut", x)
                    x = torch.relu(x + y)
            return self.fc(x.mean((2, 3)))
    return Network()


if __name__ == "__main__":
    main()
