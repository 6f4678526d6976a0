"""An exported program under JAX's XLA client, and the state that it moves on."""

import gzip
import hashlib
import json
import pathlib
import re
import time
from typing import Any

import numpy as np

DRAWN = "drawn"  # Data of random pixels and classes.

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
