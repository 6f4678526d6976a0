"""Products of a loss's second derivatives with a vector, by the backend that Keras runs on."""

import contextlib
import importlib
from typing import Any

import keras


def product_of(loss: Any, eagerly: bool = False) -> Any:
    """A function (vector, weights, others, *more) that returns H v for each weight.

    H has the second derivatives of the loss for its weights.

    Args:
      loss: a function (weights, others, *more) -> number, of lists of tensors.
      eagerly: whether it is not to be compiled.

    Example:
      >>> product = product_of(lambda weights, others: keras.ops.sum(weights[0] ** 3))
      >>> ones, twos = keras.ops.ones(1), 2 * keras.ops.ones(1)
      >>> float(keras.ops.sum(product([ones], [twos], [])[0]))  # 6 w v.
      12.0
    """
    return _PRODUCTS[keras.backend.backend()](loss, eagerly)


def in_float64() -> contextlib.AbstractContextManager[Any]:
    """A context in which the backend has float64, as all but JAX have anyway."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    jax = importlib.import_module("jax")
    # Older versions have it in another place.
    module = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
    context: contextlib.AbstractContextManager[Any] = module.enable_x64(True)
    return context


def _of_tensorflow(loss: Any, eagerly: bool) -> Any:
    tf = importlib.import_module("tensorflow")

    def product(vector: list[Any], weights: list[Any], *given: Any) -> list[Any]:
        with tf.GradientTape() as outer:
            outer.watch(weights)
            with tf.GradientTape() as inner:
                inner.watch(weights)
                value = loss(weights, *given)
            found = inner.gradient(value, weights, unconnected_gradients="zero")
            total = tf.add_n([tf.reduce_sum(one * other) for one, other
                              in zip(found, vector, strict=True)])
        return list(map(tf.convert_to_tensor, outer.gradient(
            total, weights, unconnected_gradients="zero")))
    return product if eagerly else tf.function(product, reduce_retracing=True)


def _of_jax(loss: Any, eagerly: bool) -> Any:
    jax = importlib.import_module("jax")

    def product(vector: list[Any], weights: list[Any], *given: Any) -> Any:
        return jax.jvp(lambda values: jax.grad(loss)(values, *given), (weights,), (vector,))[1]
    return product if eagerly else jax.jit(product)


def _of_torch(loss: Any, eagerly: bool) -> Any:
    torch = importlib.import_module("torch")

    def product(vector: list[Any], weights: list[Any], others: list[Any], *given: Any) -> Any:
        weights = [weight.detach().requires_grad_() for weight in weights]
        value = loss(weights, [other.detach() for other in others], *given)
        found = torch.autograd.grad(value, weights, create_graph=True, allow_unused=True)
        total = sum((one * other).sum() for one, other in zip(found, vector, strict=True)
                    if one is not None)
        if not getattr(total, "requires_grad", False):  # The loss is linear in all of them.
            return [torch.zeros_like(weight) for weight in weights]
        second = torch.autograd.grad(total, weights, allow_unused=True)
        return [torch.zeros_like(weight) if value is None else value
                for value, weight in zip(second, weights, strict=True)]
    return product


_PRODUCTS = {"tensorflow": _of_tensorflow, "jax": _of_jax, "torch": _of_torch}
