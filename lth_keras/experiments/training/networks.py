"""The networks of the papers, as functions of an example's shape and the number of classes.

LeNets and convolutional networks are here, VGGs and ResNets in `deep_networks`.  Kernels are
initialised from a Glorot normal distribution (Frankle & Carbin 2019, figure 2) and biases with
zeros, but where a network says otherwise; normalisation is Keras' default.  Every layer with
weights has a name, since fractions and tickets refer to layers by name.  The same function builds
a network with tf_keras and with Keras 3: it is told which.
"""

import functools
import importlib
import importlib.util
import inspect
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

from lth_keras.arguments import meant
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import own
from lth_keras.experiments.training import deep_networks
from lth_keras.experiments.training.network_layers import classifier, conv

# (input_shape, classes) -> model that outputs logits. A network with hidden dense layers may take
# `dropout` too, and one that either Keras can build takes `keras`.
Network = Callable[..., Any]

NETWORKS: dict[str, Network] = {}
_CHECKSUM = "__lth_keras_checksum__"  # In a user's module: of the text that it was loaded from.


def register(name: str) -> Callable[[Network], Network]:
    """Decorates a function (input_shape, classes) -> model, so that settings accept its name.

    The model outputs logits in float32: under a mixed dtype_policy its last layer has
    dtype="float32".  The function may have an argument `dropout`: the share of the units
    of hidden dense layers that a training step drops, in [0, 1).  Without it, the setting dropout
    must be 0.  It may have an argument `keras`: the package to build the model with, tf_keras or
    keras.  Without it, the model must be of the engine that the run uses.

    Raises:
      LotteryError: if a network with this name is already registered.

    Example:
      >>> import tf_keras
      >>> @register("perceptron")
      ... def perceptron(input_shape, classes, keras):
      ...     return keras.Sequential([keras.layers.Input(input_shape), keras.layers.Flatten(),
      ...                              keras.layers.Dense(classes, name="fc")])
      >>> get("perceptron")((28, 28), 10, keras=tf_keras).count_params()
      7850
      >>> del NETWORKS["perceptron"]
    """
    def add(network: Network) -> Network:
        if name in NETWORKS:
            raise LotteryError("A network must have a name that no other network has. Received: "
                               f"{name!r}, which is already registered.")
        NETWORKS[name] = network
        return network
    return add


def get(name: str) -> Network:
    """Returns a network by name: a registered one, or lenet_WIDTH_WIDTH for a LeNet of any widths.

    Raises:
      LotteryError: if no network has this name; the message lists all names.

    Example:
      >>> import tf_keras
      >>> [layer.units for layer in get("lenet_150_50")((28, 28), 10, keras=tf_keras).layers[1:]]
      [150, 50, 10]
    """
    widths = re.fullmatch("lenet_([1-9][0-9]{0,4})_([1-9][0-9]{0,4})", name)
    if name in NETWORKS:
        return NETWORKS[name]
    if widths:
        return functools.partial(_lenet, name=name, widths=(int(widths[1]), int(widths[2])))
    raise LotteryError(f"network must be one of {', '.join(NETWORKS)}, or lenet_WIDTH_WIDTH such "
                       f"as lenet_150_50. Received: {name!r}.{meant(name, NETWORKS)}")


def of(config: Any) -> Network:
    """Returns the network of a configuration: by its name, or the user's own function.

    Args:
      config: the settings network, network_file and network_checksum are used.

    Raises:
      LotteryError: if there is none, or its file is another than that the run began with.
    """
    if ":" not in config.network:
        return get(config.network)
    file, function = pathlib.Path(config.network_file), _own_function(config)
    options = inspect.signature(function).parameters
    needed = [name for name, option in options.items()
              if name not in ("keras", "dropout") and option.default is option.empty
              and option.kind not in (option.VAR_POSITIONAL, option.VAR_KEYWORD)]
    if len(needed) not in (0, 2):
        raise LotteryError("The function of a network must take nothing, or input_shape and "
                           f"classes; and may take keras and dropout. Received: {config.network} "
                           f"of {file}, which takes {', '.join(needed)}.")

    def build(input_shape: tuple[int, ...], classes: int, **chosen: Any) -> Any:
        model = function(*(input_shape, classes)[:len(needed)], **chosen)
        _check_own(model, input_shape, classes, config.network)
        return model
    vars(build)["__signature__"] = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("dropout", "keras")
         if name in options])
    return build


def _own_function(config: Any) -> Any:
    file, (module, _, name) = pathlib.Path(config.network_file), config.network.rpartition(":")
    if not config.network_file:
        raise LotteryError("A network of your own must have been looked up, as lth.run and `lth "
                           f"run` do, or lie in its run's workdir. Received: {config.network}, of "
                           "an unknown file. Export from the workdir instead.")
    if own.checksum(file) != config.network_checksum:
        raise LotteryError(f"A run goes on with the network that it began with. Received: {file}, "
                           "which has changed since. Use another --workdir.")
    function = getattr(_module(module, file, config.network_checksum), name, None)
    if not callable(function):
        raise LotteryError("A network must be a function. Received: "
                           f"{config.network} of {file}, {function!r:.60}.")
    return function


def _module(name: str, file: pathlib.Path, checksum: str) -> Any:
    # By the file that has the checksum: what was imported under the name may be of an earlier
    # text, or of another folder.
    root = str(file.parents[name.count(".") + (file.name == "__init__.py")])
    if root not in sys.path:  # That of a worker process is not the user's.
        sys.path.insert(0, root)
    held = sys.modules.get(name)
    if held is not None:
        ours, of = vars(held).get(_CHECKSUM), getattr(held, "__file__", None)
        same = of is not None and pathlib.Path(of).resolve() == file.resolve()
        if same and ours in (None, checksum):  # The user's program may have imported it.
            vars(held)[_CHECKSUM] = checksum
            return held
        if ours is None:
            raise LotteryError("The file of a network must have a name that no other module has. "
                               f"Received: {file}, while {name} is {of or 'a part of Python'}. "
                               "Give the file another name.")
        # Another process that imports the name, as for an export's layers, finds this file.
        sys.path.remove(root)
        sys.path.insert(0, root)
    return _loaded(name, file, checksum, held)


def _loaded(name: str, file: pathlib.Path, checksum: str, held: Any) -> Any:
    parent, _, last = name.rpartition(".")
    package = importlib.import_module(parent) if parent else None
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # It ends in .py.
    module = importlib.util.module_from_spec(spec)
    vars(module)[_CHECKSUM] = checksum
    _forget_classes(name)
    sys.modules[name] = module
    try:
        # Not by the loader, whose compiled files are as old as the second in which a text was
        # written.
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        if held is not None:
            sys.modules[name] = held
        raise
    if package is not None:
        setattr(package, last, module)
    return module


def _forget_classes(module: str) -> None:
    # tf_keras refuses to register a class again under its name.
    for package in filter(None, map(sys.modules.get, ("tf_keras", "keras"))):
        known = package.saving.get_custom_objects()
        for name in [name for name, each in known.items()
                     if getattr(each, "__module__", None) == module]:
            del known[name]


def _check_own(model: Any, input_shape: tuple[int, ...], classes: int, name: str) -> None:
    # What would otherwise end in TensorFlow's words, or train a wrong loss.
    found = [getattr(model, of, None) for of in ("input_shape", "output_shape")]
    if not all(isinstance(shape, tuple) for shape in found):
        raise LotteryError("A network must be a functional or Sequential model with one input and "
                           f"one output. Received: {name}, which returned {model!r:.100}.")
    takes, gives = (tuple(shape[1:]) for shape in found if shape)
    if takes != tuple(input_shape) or gives != (classes,):
        raise LotteryError(
            f"A network must take the examples of the data, of shape {list(input_shape)}, and give "
            f"{classes} logits, one for each class. Received: {name}, which takes {list(takes)} "
            f"and gives {list(gives)}.")
    last = getattr(getattr(model.layers[-1], "activation", None), "__name__", "")
    if last in ("softmax", "sigmoid") or type(model.layers[-1]).__name__ == "Softmax":
        raise LotteryError(
            "A network must give logits: the loss has the softmax in it. Received: "
            f"{name}, whose last layer {model.layers[-1].name} has a {last or 'softmax'}. Leave "
            "that activation out.")


@register("lenet_300_100")
def lenet_300_100(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0, *,
                  keras: Any) -> Any:
    """LeNet-300-100: 266,200 prunable weights on 28x28 images of ten classes.

    Two hidden dense layers (Frankle & Carbin 2019, figure 2; LeCun et al. 1998).  Names such as
    lenet_150_50 give other widths (the same paper, appendix G).

    Example:
      >>> import tf_keras
      >>> lenet_300_100((28, 28), 10, keras=tf_keras).count_params()  # 410 biases are not pruned.
      266610
    """
    return _lenet(input_shape, classes, dropout, keras=keras, name="lenet_300_100",
                  widths=(300, 100))


def _lenet(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0, *, keras: Any,
           name: str, widths: tuple[int, int]) -> Any:
    return keras.Sequential([keras.layers.Input(input_shape),
                             *classifier(keras, widths, classes, dropout)], name=name)


@register("conv2")
def conv2(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0, *,
          keras: Any) -> Any:
    """Conv-2: 4,300,992 prunable weights on 32x32x3 images of ten classes.

    Two convolutions of 64 filters, max pooling, two dense layers of 256 units (Frankle & Carbin
    2019, figure 2).

    Example:
      >>> import tf_keras
      >>> [layer.name for layer in conv2((32, 32, 3), 10, keras=tf_keras).layers if layer.weights]
      ['conv1', 'conv2', 'fc1', 'fc2', 'fc3']
    """
    return _convolutional(keras, (64,), input_shape, classes, dropout)


@register("conv4")
def conv4(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0, *,
          keras: Any) -> Any:
    """Conv-4: 2,425,024 prunable weights on 32x32x3 images of ten classes.

    Conv-2 with two more convolutions of 128 filters and max pooling (Frankle & Carbin 2019,
    figure 2).

    Example:
      >>> import tf_keras
      >>> conv4((32, 32, 3), 10, keras=tf_keras).get_layer("conv4").filters
      128
    """
    return _convolutional(keras, (64, 128), input_shape, classes, dropout)


# The paper gives Conv-6 1.7 million weights, which contradicts its own layers and densities.
@register("conv6")
def conv6(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0, *,
          keras: Any) -> Any:
    """Conv-6: 2,261,184 prunable weights on 32x32x3 images of ten classes.

    Conv-4 with two more convolutions of 256 filters and max pooling (Frankle & Carbin 2019,
    figure 2, which says 1.7 million weights; the layers that it lists have 2.3 million).

    Example:
      >>> import tf_keras
      >>> conv6((32, 32, 3), 10, keras=tf_keras).get_layer("conv6").filters
      256
    """
    return _convolutional(keras, (64, 128, 256), input_shape, classes, dropout)


def _convolutional(keras: Any, filters: tuple[int, ...], input_shape: tuple[int, ...],
                   classes: int, dropout: float) -> Any:
    layers = [keras.layers.Input(input_shape)]
    for pair, count in enumerate(filters):
        layers += [conv(keras, count, 3, f"conv{2 * pair + 1}", activation="relu"),
                   conv(keras, count, 3, f"conv{2 * pair + 2}", activation="relu"),
                   keras.layers.MaxPooling2D()]
    return keras.Sequential([*layers, *classifier(keras, (256, 256), classes, dropout)],
                            name=f"conv{2 * len(filters)}")


@register("lenet5")
def lenet5(input_shape: tuple[int, ...], classes: int, dropout: float = 0.0, *,
           keras: Any) -> Any:
    """LeNet-5: 430,500 prunable weights on 28x28 images of ten classes.

    Two convolutions of 20 and 50 filters of 5x5 without padding, each followed by max pooling, and
    a dense layer of 500 units: the network of Caffe's examples that papers on pruning call LeNet-5
    (Han et al. 2015; the first, LeCun et al. 1998, has 6 and 16 filters).  Here convolutions too
    have a ReLU, as in most of them.

    Example:
      >>> import tf_keras
      >>> lenet5((28, 28, 1), 10, keras=tf_keras).count_params()  # 580 biases are not pruned.
      431080
    """
    layers = keras.layers
    return keras.Sequential([
        layers.Input(input_shape),
        conv(keras, 20, 5, "conv1", padding="valid", activation="relu"), layers.MaxPooling2D(),
        conv(keras, 50, 5, "conv2", padding="valid", activation="relu"), layers.MaxPooling2D(),
        *classifier(keras, (500,), classes, dropout)], name="lenet5")


for _network in (deep_networks.vgg16, deep_networks.vgg19, deep_networks.resnet18,
                 deep_networks.resnet56, deep_networks.vgg16_fc512, deep_networks.resnet56_padded,
                 deep_networks.resnet110_padded):
    register(_network.__name__)(_network)
