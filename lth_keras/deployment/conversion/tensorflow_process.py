"""Has TensorFlow convert a model: in this process, or in one of its own for other backends.

A model of the JAX or torch backend is saved to a .keras file, which a process with the TensorFlow
backend (`converting_process`) loads once and converts as often as it is asked to.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import lth_keras
from lth_keras.arguments import one_line
from lth_keras.core.masks import Array
from lth_keras.deployment.comparison import signature
from lth_keras.deployment.conversion import converting_process
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.errors import LotteryError


@dataclasses.dataclass(frozen=True)
class ByTensorFlow:
    """A converter that needs TensorFlow, by name, so that it is imported where it is called.

    Attributes:
      function: "module:function" of the converter.
      options: arguments for it.
      packages: the packages that it needs beside TensorFlow.
      extra: the extra of this package that installs them.
    """

    function: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    packages: tuple[str, ...] = ()
    extra: str = ""

    def check(self, name: str) -> None:
        """Checks that what it needs is installed.

        Args:
          name: the format's name, for the message.

        Raises:
          LotteryError: if a package is missing; the message has the command that installs it.
        """
        missing = [each for each in ("tensorflow", *self.packages) if not _is_installed(each)]
        if missing:
            what = f"'lth_keras[{self.extra}]'" if self.extra else "tensorflow"
            raise LotteryError(f"{name} needs {', '.join(missing)} to be written. Received: a "
                               f"Python without it. Install it: pip install {what}.")

    def __call__(self, model: Any, path: pathlib.Path, representative: "Array | None") -> None:
        converting_process.call(self.function, self.options, model, path, representative)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # It is there, but was not imported in the usual way.
        return True


class TensorFlowProcess:
    """A process with the TensorFlow backend that has loaded a model; ends with a `with` block.

    Args:
      model: a Keras 3 model of another backend. Its classes must lie in modules that can be
        imported there; they need not be registered with Keras.

    Raises:
      LotteryError: if it cannot be saved, or a class is defined in the script itself or in a
        function, which cannot be imported.
    """

    def __init__(self, model: Any):
        kind = kind_of(model)
        self._backend = kind.backend
        self._stack = contextlib.ExitStack()
        classes = _importable(kind.layers(model), self._backend)
        self._folder = pathlib.Path(self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="lth_keras.")))
        try:
            kind.copy(model).save(self._folder / "model.keras")
        except Exception as error:  # A user's get_config may raise anything.
            raise LotteryError(
                f"A model of the {self._backend} backend must be one that Keras can save, since it "
                f"is loaded anew with TensorFlow. Received: {model.name}, of which saving raised "
                f"{type(error).__name__}: {one_line(error)}") from None
        names = signature.of(model)
        (self._folder / "model.json").write_text(json.dumps({
            "modules": kind.loading(model)["modules"], "classes": classes,
            "path": sys.path, "takes": names.takes,
            "inputs": {name: dataclasses.asdict(spec) for name, spec in names.inputs.items()}}))
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "TensorFlowProcess":
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate()  # Closes its input, so that it ends.
        self._stack.close()

    def conversion(self, how: ByTensorFlow) -> Callable[[Any, pathlib.Path, "Array | None"], None]:
        """Returns a converter that has the process do what `how` does."""
        def convert(model: Any, path: pathlib.Path, representative: "Array | None") -> None:
            self._ask({"function": how.function, "options": how.options, "path": str(path),
                       "representative": self._kept(representative)})
        return convert

    def _kept(self, representative: Any) -> "list[str] | None":
        if representative is None:
            return None
        arrays = representative if isinstance(representative, dict) else {"": representative}
        for place, values in enumerate(arrays.values()):
            np.save(self._folder / f"representative_{place}.npy", values, allow_pickle=False)
        return list(arrays)

    def _ask(self, task: dict[str, Any]) -> None:
        if self._process is None or self._process.poll() is not None:
            self._process = self._started()
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # The answer says why.
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise LotteryError(f"The process that converts a model of the {self._backend} backend "
                               f"with TensorFlow {self._end(process)}")
        failed = json.loads(answer)["error"]
        if failed:
            raise LotteryError(failed)

    def _started(self) -> "subprocess.Popen[str]":
        root = str(pathlib.Path(lth_keras.__file__).parent.parent)
        paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": paths,
                       "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        with open(self._folder / "log", "w") as log:
            # In a folder of its own: a numpy.py in the user's folder must not be imported first.
            return subprocess.Popen(
                [sys.executable, "-m", converting_process.__name__, str(self._folder)],
                cwd=self._folder, text=True, env=environment, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log)

    def _end(self, process: "subprocess.Popen[str]") -> str:
        code = process.wait()
        ended = f"crashed ({signal.Signals(-code).name})" if code < 0 else \
            f"ended with exit code {code}"
        said = (self._folder / "log").read_text(errors="replace").strip().splitlines()
        return f"{ended}{': ' + one_line(said[-1]) if said else ''}."


def _importable(layers: list[Any], backend: str) -> list[tuple[str, str]]:
    # The module and name of each class that is not Keras' own.
    found = dict.fromkeys((type(layer).__module__, type(layer).__qualname__) for layer in layers
                          if not type(layer).__module__.startswith("keras."))
    for module, name in found:
        if module == "__main__" or "<locals>" in name:
            where = "a function" if "<locals>" in name else "the script itself, or in a notebook"
            raise LotteryError(
                f"A model of the {backend} backend is loaded anew with TensorFlow, in a process "
                "that must be able to import its classes. Received: "
                f"{name}, which is defined in {where}. Put it into a module of its own, and import "
                "it from there.")
    return list(found)
