"""A callback that either Keras takes: each hook that one of them calls, without importing any.

Keras 3 takes any object that has its hooks; tf_keras asks each callback besides which kinds of
hooks it implements, and whether its logs may stay tensors.
"""

from collections.abc import Callable, Mapping
from typing import Any


class Hooks:
    """The hooks of tf_keras' and Keras 3's callbacks, which do nothing.

    Attributes:
      model: the model of the fit.
      params: the parameters of the fit.
    """

    model: Any = None
    params: Mapping[str, Any] = {}
    validation_data: Any = None  # tf_keras gives it to every callback.
    _supports_tf_logs = True  # Batch logs are not read, so need not be copied.
    _chief_worker_only = None  # Called in every process of a distributed fit.

    def set_model(self, model: Any) -> None:
        """Receives the model."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Receives the parameters of a fit: epochs, steps, verbose."""
        self.params = params

    def _implements_train_batch_hooks(self) -> bool:
        return True

    def _implements_test_batch_hooks(self) -> bool:
        return True

    def _implements_predict_batch_hooks(self) -> bool:
        return False

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """An older name of on_train_batch_begin."""

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """An older name of on_train_batch_end."""

    def on_train_begin(self, logs: Any = None) -> None:
        """`fit` begins."""

    def on_train_end(self, logs: Any = None) -> None:
        """`fit` ends."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """An epoch begins."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """An epoch ends, after its validation."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """A batch, or the steps of one execution, begin."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """A batch, or the steps of one execution, end."""

    def on_test_begin(self, logs: Any = None) -> None:
        """A validation begins."""

    def on_test_end(self, logs: Any = None) -> None:
        """A validation ends."""

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """A batch of a validation begins."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """A batch of a validation ends."""

    def on_predict_begin(self, logs: Any = None) -> None:
        """`predict` begins."""

    def on_predict_end(self, logs: Any = None) -> None:
        """`predict` ends."""

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """A batch of `predict` begins."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """A batch of `predict` ends."""

    # Keras 3 marks hooks that do nothing so: it need not wait for a batch to call them.
    for _hook in (on_batch_end, on_train_batch_end, on_test_batch_end, on_predict_batch_end):
        _hook._is_default = True  # type: ignore[attr-defined]
    del _hook


def after_others(model: Any, hook: str, then: Callable[..., None]) -> None:
    """Calls a function once, when all callbacks of the user's have had a hook.

    Keras calls those of the user first, then its History, and last its progress bar, all with the
    same logs.

    Args:
      model: the model of a fit, within the hook.
      hook: the hook's name.
      then: takes what the hook gets.
    """
    history = getattr(model, "history", None)
    if history is None or hook in vars(history):
        return

    def called(*arguments: Any, **named: Any) -> None:
        delattr(history, hook)  # For this time alone.
        getattr(history, hook)(*arguments, **named)
        then(*arguments, **named)
    setattr(history, hook, called)
