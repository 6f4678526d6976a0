"""A user's own data and network: `lth run mydata.npz --network my_module:build`.

The data are a file of arrays, the network a function in a file of Python.  A run records the paths
of both and their checksums: paths may change, what they hold may not, so that a run goes on with
the same data and the same source only.
"""

import ast
import dataclasses
import hashlib
import importlib.util
import os
import pathlib
import re
import sys

from lth_keras.errors import LotteryError
from lth_keras.experiments.config import presets
from lth_keras.experiments.config.config import Config
from lth_keras.files import data_file

_DIGITS = 16  # Of a checksum, in hexadecimal.


def settings_of(name: str) -> Config:
    """Returns the settings of a preset, or those that suit a file of data.

    A file gets LeNet-300-100, unless another network is asked for, and a question that can be
    answered: five replicates of three rounds, the last ticket beside its control.

    Args:
      name: the name of a preset, or the path of a file NAME.npz with the arrays x_train, y_train,
        x_test and y_test.

    Raises:
      LotteryError: if no preset has this name, or the file does not hold such arrays.
    """
    if not str(name).endswith(".npz"):
        return presets.get(name)
    arrays = data_file.read(name)
    examples, tests = len(arrays["y_train"]), len(arrays["y_test"])
    held_out = max(1, min(5000, examples // 6))
    batch = min(60, examples - held_out)
    # Forty times all examples, but enough steps to see an early stop, and not hours.
    every = min(max(round(40 * (examples - held_out) / batch), 1000), 20_000) // 100
    return Config(
        preset=_name(name), network="lenet_300_100", dataset=_name(name), data=os.fspath(name),
        steps=100 * every, validation_every=every, validation_size=held_out, batch_size=batch,
        rounds=3, replicates=5, branches=("ticket", "reinit@last"),
        fraction={"default": 0.2, "output": 0.1},
        # One of a few hundred test examples is more than 0.2 points.
        margin="accuracy:0.01" if tests < 5000 else "accuracy:0.002")


def resolved(config: Config) -> Config:
    """Returns the configuration with the checksums of its data and its network's source.

    Args:
      config: the settings; without own data and network they are returned as they are.

    Raises:
      LotteryError: if a file cannot be read, or does not hold such a function.
    """
    if config.data:
        path = pathlib.Path(config.data).absolute()
        config = dataclasses.replace(config, dataset=_name(path), data=str(path),
                                     data_checksum=checksum(path))
    if ":" in config.network:
        # Settings of a run that has begun know the file already.
        module, file = (config.network, pathlib.Path(config.network_file)) \
            if config.network_file else _found(config.network)
        config = dataclasses.replace(config, network=module, network_file=str(file),
                                     network_checksum=checksum(file))
    return config


def checksum(path: "str | os.PathLike[str]") -> str:
    """Returns sixteen hexadecimal digits of the SHA-256 of a file.

    Raises:
      LotteryError: if it cannot be read.
    """
    try:
        return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:_DIGITS]
    except OSError as error:
        raise LotteryError(f"A file must be readable. Received: {path} "
                           f"({error.strerror or error}).") from None


def _name(path: "str | os.PathLike[str]") -> str:
    # As settings and figures name it.
    return re.sub(r"[^0-9A-Za-z_.-]", "_", pathlib.Path(path).stem)[:100] or "data"


def _found(text: str) -> tuple[str, pathlib.Path]:
    # "MODULE:FUNCTION" and the file of the module, which is not imported: that would load Keras.
    where, _, function = text.rpartition(":")
    if where.endswith(".py"):
        file, module = pathlib.Path(where).absolute(), pathlib.Path(where).stem
    else:
        module, file = where, _file_of(where, text)
    try:
        names = _names(ast.parse(file.read_bytes()))
    except OSError as error:
        raise _no_function(text, f"{file} ({error.strerror or error})") from None
    except (SyntaxError, ValueError) as error:
        raise _no_function(text, f"{file}, which is not Python ({error})") from None
    if function not in names:
        own = [name for name, is_one in sorted(names.items()) if is_one]
        has = f"has {', '.join(own[:10])}" if own else "has none"
        raise _no_function(text, f"{file}, which has no {function}; it {has}")
    return f"{module}:{function}", file


def _file_of(module: str, text: str) -> pathlib.Path:
    here = os.getcwd()
    before, sys.path = sys.path, [here, *sys.path]
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    finally:
        sys.path = before
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise _no_function(text, f"no {module.replace('.', '/')}.py in {here}, and no installed "
                                 "module of this name")
    return pathlib.Path(spec.origin).absolute()


def _names(tree: ast.Module) -> dict[str, bool]:
    # What can be a function -> whether it is one: what is assigned or imported may be.
    found = dict[str, bool]()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = True
        elif isinstance(node, ast.ClassDef):
            found[node.name] = False
        elif isinstance(node, ast.Assign):
            found |= {target.id: False for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name: False for alias in node.names}
    return found


def _no_function(text: str, received: str) -> LotteryError:
    return LotteryError(
        f"network (--network) must be a known name, or a function as MODULE:FUNCTION or "
        f"FILE.py:FUNCTION, such as my_module:build. Received: {text!r:.100}: {received}.")
