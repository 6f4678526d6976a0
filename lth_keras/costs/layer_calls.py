"""The calls of a model's layers in one call of the model, with shapes in place of tensors.

The `call` of every layer is replaced in the layer itself while the model is called once.  This sees
all that a model does: graphs, nested and shared models, and the Python code of subclassed ones.
Functions that multiply tensors are replaced too, for layers whose code is the user's.
"""

import contextlib
import dataclasses
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from lth_keras.costs.products import Product

Shape = tuple[int, ...]
UNKNOWN = -1  # In place of a length that is not known.
OWN = ("keras", "tf_keras")  # The packages of Keras' own classes.
# Layers that call others step after step: what is inside is counted by the rule of the outer one.
CLOSED = frozenset({"RNN"})
# Layers that are one row together with those in them.
WHOLE = frozenset({"MultiHeadAttention", "GroupedQueryAttention"})
_PER_STEP = "TimeDistributed"
_CLOSED = CLOSED | {_PER_STEP}


def kinds(layer: Any) -> list[str]:
    """The names of the classes of Keras that a layer is of, the most special first.

    Example:
      >>> import keras
      >>> kinds(keras.layers.LSTM(2))[:2]
      ['LSTM', 'RNN']
    """
    return [kind.__name__ for kind in type(layer).__mro__
            if kind.__module__.partition(".")[0] in OWN]


@dataclasses.dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a layer, or of an operation of Keras 3.

    Attributes:
      layer: what is called.
      row: the layer in whose row its costs are: itself, or an attention that it is a part of.
      arguments: by name, with shapes in place of tensors.
      inputs: the shapes of the tensors in its first argument.
      outputs: the shapes of the tensors that it returns.
      output_bytes: what they take.
      products: what its own code multiplies, where functions that do so were called.
      leaf: whether it calls no layer that is recorded too.
      times: how often it is called, where a layer around it repeats it for every time step.
    """

    layer: Any
    row: Any
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inputs: tuple[Shape, ...] = ()
    outputs: tuple[Shape, ...] = ()
    output_bytes: int = 0
    products: tuple[Product, ...] = ()
    leaf: bool = True
    times: int = 1

    @property
    def known(self) -> bool:
        """Whether all shapes are known."""
        shapes = [*self.inputs, *self.outputs, *(shape for product in self.products
                                                 for shape in (*product.shapes, product.out))]
        return all(length != UNKNOWN for shape in shapes for length in shape)


class Recorder:
    """Records calls of layers.

    Args:
      plain: from what a layer multiplies with to the variable that stands behind it, if one does.

    Attributes:
      calls: the calls so far, each after those within it.
    """

    def __init__(self, plain: Callable[[Any], Any] = lambda operand: operand) -> None:
        self._plain = plain
        self.calls: list[LayerCall] = []
        self._open: list[Any] = []  # The layers whose call is running.
        self._products: list[list[Product]] = []  # Of each of them.
        self._muted = False  # Whether what is called is no part of the model's call.
        self._times = 1

    def clear(self) -> None:
        """Forgets all calls: the model is called again."""
        self.calls, self._open, self._products = [], [], []
        self._times, self._muted = 1, False

    @contextlib.contextmanager
    def watching(self, layers: Iterable[Any],
                 functions: Iterable[tuple[Any, str]] = ()) -> Iterator[None]:
        """Records while a `with` block runs.

        Args:
          layers: layers and operations, whose calls are recorded.
          functions: functions that multiply tensors, each a module or class and a name in it.
        """
        with contextlib.ExitStack() as stack:
            for layer in {id(layer): layer for layer in layers}.values():
                for name in ("call", "quantized_call"):  # Keras 3 calls the latter of an int8 one.
                    if callable(getattr(layer, name, None)):
                        stack.enter_context(_replaced(
                            layer, name, self._recorded(layer, getattr(layer, name))))
                if hasattr(layer, "compute_mask"):  # For which tf_keras may call layers again.
                    stack.enter_context(_replaced(
                        layer, "compute_mask", self._unrecorded(layer.compute_mask)))
            for holder, name in functions:
                if hasattr(holder, name):
                    stack.enter_context(_replaced(holder, name, self._multiplied(
                        name.strip("_"), getattr(holder, name))))
            yield

    def _recorded(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        signature = _signature(call)

        @functools.wraps(call)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            if self._is_inside() or any(other is layer for other in self._open):
                return call(*args, **kwargs)
            first = len(self.calls)
            self._open.append(layer)
            self._products.append([])
            try:
                if _PER_STEP in kinds(layer):
                    self._step(layer, args, kwargs)
                outputs = call(*args, **kwargs)
            finally:
                self._open.pop()
                products = self._products.pop()
            given = _bound(signature, args, kwargs)
            self.calls.append(self._call(layer, given, outputs, products, first))
            return outputs
        # Keras asks which arguments a layer's call takes.
        recorded.__signature__ = signature  # type: ignore[attr-defined]
        return recorded

    def _unrecorded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def unrecorded(*args: Any, **kwargs: Any) -> Any:
            before, self._muted = self._muted, True
            try:
                return function(*args, **kwargs)
            finally:
                self._muted = before
        return unrecorded

    def _is_inside(self) -> bool:
        # Whether a layer is running that is counted as if nothing were inside.
        return self._muted or any(_CLOSED & {*kinds(layer)} for layer in self._open)

    def _step(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # How often a TimeDistributed calls its layer depends on the backend: once is enough.
        inputs = args[0] if args else next(iter(kwargs.values()))
        steps = next(_shapes(inputs))[1]
        self._times, self._open[-1] = self._times * steps, None
        layer.layer(_first_step(inputs))
        self._times, self._open[-1] = self._times // steps, layer

    def _call(self, layer: Any, given: dict[str, Any], outputs: Any, products: list[Product],
              first: int) -> LayerCall:
        tensors = list(_tensors(outputs))
        return LayerCall(
            layer, next((other for other in self._open if WHOLE & {*kinds(other)}), layer),
            {name: _with_shapes(value) for name, value in given.items()},
            tuple(_shapes(next(iter(given.values()), ()))), tuple(map(shape_of, tensors)),
            sum(math.prod(shape_of(tensor)) * _width(tensor) for tensor in tensors),
            tuple(products), len(self.calls) == first, self._times)

    def _multiplied(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def multiplied(*args: Any, **kwargs: Any) -> Any:
            if not self._open or self._is_inside():
                return function(*args, **kwargs)
            out = self._unrecorded(function)(*args, **kwargs)  # One may call another.
            if out is NotImplemented:  # Of `@`: the other operand is asked.
                return out
            given = [*args, *kwargs.values()]
            operands = tuple(_tensors(given))
            transposed = any(flag is True for flag in (
                *args[2:3], kwargs.get("transpose_a"), kwargs.get("adjoint_a")))
            self._products[-1].append(Product(
                name, tuple(map(self._plain, operands)), tuple(map(shape_of, operands)),
                shape_of(out), next((each for each in given if isinstance(each, str)), ""),
                transposed))
            return out
        return multiplied


@contextlib.contextmanager
def _replaced(holder: Any, name: str, value: Any) -> Iterator[None]:
    # Past what Keras' layers track of their attributes; a class has an attribute or inherits it.
    into, out_of = (type.__setattr__, type.__delattr__) if isinstance(holder, type) else (
        object.__setattr__, object.__delattr__)
    own = name in vars(holder)
    before = vars(holder).get(name)
    into(holder, name, value)
    try:
        yield
    finally:
        if own:
            into(holder, name, before)
        else:
            out_of(holder, name)


def _signature(call: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(call)
    except ValueError:  # Of a function that is not written in Python.
        return inspect.signature(lambda *inputs: None)


def _bound(signature: inspect.Signature, args: tuple[Any, ...],
           kwargs: dict[str, Any]) -> dict[str, Any]:
    given = dict(signature.bind(*args, **kwargs).arguments)
    collected = [name for name, parameter in signature.parameters.items()
                 if parameter.kind is parameter.VAR_KEYWORD and name in given]
    for name in collected:
        given.update(given.pop(name))
    return given


def shape_of(tensor: Any) -> Shape:
    """The shape of a tensor of any backend, with UNKNOWN for lengths that are not known."""
    return tuple(length if isinstance(length, int) else UNKNOWN for length in tuple(tensor.shape))


def _width(tensor: Any) -> int:
    # Bytes of a number, from the name of its type: "float32", "torch.bfloat16", "bool".
    name = getattr(tensor.dtype, "name", None) or str(tensor.dtype)
    bits = re.search("[0-9]+", name)
    return max(1, int(bits[0]) // 8) if bits else int("bool" in name)


def _tensors(value: Any) -> Iterator[Any]:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        if getattr(value.shape, "rank", 0) is not None:  # TensorFlow may not know the rank.
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _shapes(value: Any) -> Iterator[Shape]:
    return map(shape_of, _tensors(value))


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _mapped(change, part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mapped(change, part) for part in value]
    return change(value)


def _with_shapes(value: Any) -> Any:
    return _mapped(lambda part: next(_shapes(part), part), value)


def _first_step(value: Any) -> Any:
    return _mapped(lambda part: part[:, 0], value)
