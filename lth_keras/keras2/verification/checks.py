"""The four checks of `lth.verify`.

Each is a generator of findings, so that a training that fails ends its check but not the report.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from lth_keras.arguments import one_line
from lth_keras.core import invariants
from lth_keras.core.masks import Array
from lth_keras.core.verification import cut, Finding, Recording, unmoved
from lth_keras.errors import LotteryError
from lth_keras.keras2 import rewinding as rewind
from lth_keras.keras2.contents import contents, Held, is_optimizer
from lth_keras.keras2.masking.weight_names import masked, named_weights, stored_in, wrappers
from lth_keras.keras2.masking.wrap import strip_pruning
from lth_keras.keras2.verification import stripped
from lth_keras.keras2.verification.subject import Subject
from lth_keras.keras2.verification.trained import gradients_seen, train
from lth_keras.search.search import Search

_EAGERLY = {"run_eagerly": True, "jit_compile": False, "steps_per_execution": 1}
_NO_GRADIENT = ("a gradient that does not reach it once it is wrapped, as with tf.recompute_grad "
                "and tf.custom_gradient")
_OWN_CODE = "the model's own code, which takes another way where its layers are wrapped"
_STEP_BY_STEP = {"steps_per_execution": 1}


def wrapping(subject: Subject) -> Iterator[Finding]:
    """Checks that the wrapped model, with nothing pruned, trains like the model without wrappers.

    Both train eagerly: there, unlike in two different graphs, equal operations draw equal random
    numbers.
    """
    plain = subject.plain(**_EAGERLY)
    predicted, penalties = _predictions(plain, subject), _losses(plain)
    subject.dense = dense = subject.train(plain)
    model = subject.eager = subject.wrapped(**_EAGERLY)
    subject.notes += _left_dense(model)
    if predicted is not None and not stripped.same(predicted, _predictions(model, subject) or []):
        yield Finding("wrapping", "predictions",
                      "differ from those of the model that is not wrapped", 0, _OWN_CODE)
    recording = yield from _trained("wrapping", subject, model)
    if recording is None:
        return
    lost = _losses_lost(penalties, _losses(model), dense, recording)
    for name, step in dense.drift(recording).items():
        still = np.array_equal(recording.final[name], recording.start[name])
        cause = _NO_GRADIENT if still else lost
        yield Finding("wrapping", name, "does not train" if still else
                      "is not trained as in the model that is not wrapped", step, cause)


def rewinding(subject: Subject) -> Iterator[Finding]:
    """Checks that a round that is rewound without pruning gives the same bits again."""
    # Compiled as the user does: unlike two models, the same compiled step repeats its bits.
    model = subject.wrapped(**_STEP_BY_STEP)
    search = Search(model, fraction=0.0, check=True)
    start = _values(model)
    first = yield from _trained("rewinding", subject, model)
    if first is None:
        return
    if not (yield from _rewound("rewinding", search)):
        return
    # Seeds go on by design when a search rewinds, but here the second round must draw the same.
    suspects = _put_back_seeds(model, start)
    again = yield from _trained("rewinding", subject, model)
    if again is None:
        return
    subject.pruned = model
    yield from _compiled_differs(subject, first)
    found = first.first_difference(again)
    # A model that would not repeat its training even when built again is not evidence of a fault.
    if found and _repeats(subject, first):
        cause = f"{cut(suspects)}, not rewound" if suspects else \
            "something that no variable holds, such as a number that Python counts"
        for name, step in found.items():
            yield Finding("rewinding", name, "ends another round than it did before", step, cause)


def _compiled_differs(subject: Subject, wrapped: Recording) -> Iterator[Finding]:
    """Yields findings for a wrapped model that trains wrongly when compiled, but not eagerly.

    In two graphs, or compiled by XLA, equal models agree only up to rounding.  An optimizer such as
    Adam enlarges rounding where gradients are zero, so not the weights are compared but the losses,
    and which weights train at all.
    """
    plain = subject.plain(**_STEP_BY_STEP)
    if plain.run_eagerly or subject.dense is None:
        return
    dense = subject.train(plain)
    masks = {name: np.ones(value.shape, np.uint8) for name, value in dense.start.items()}
    for name in unmoved(dense, wrapped, masks):
        yield Finding("wrapping", name, "does not train, compiled as build does", len(dense.losses),
                      _NO_GRADIENT)
    step = dense.losses_differ(wrapped)
    if step is not None and not _draws(subject, dense):
        yield Finding("wrapping", "loss", "differs from that of the model that is not wrapped, "
                      "compiled as build does", step)


def _draws(subject: Subject, first: Recording) -> bool:
    """Whether a training draws random numbers, which differ in two graphs even for equal seeds."""
    other = train(subject.plain(**_STEP_BY_STEP), subject.batches, subject.seed + 1)
    return bool(first.first_difference(other))


def pruning(subject: Subject) -> Iterator[Finding]:
    """Checks, with half of the weights pruned, that they stay zero and that survivors train."""
    if subject.dense is None:
        return
    # Eagerly, where each gradient can be seen; and compiled as the user trains.
    for model, eagerly in ((subject.eager, True), (subject.pruned, False)):
        if model is not None:
            yield from _pruned_by_half(subject, model, eagerly)


def stripping(subject: Subject) -> Iterator[Finding]:
    """Checks that the stripped model, saved and loaded, predicts the same and is free of ours."""
    # The model of the pruning check: with full masks a lost mask would not be noticed.
    model = subject.pruned
    if model is None:
        subject.skipped["stripping"] = "not made, since the model could not be trained"
        return
    wanted = _predictions(model, subject)
    plain = strip_pruning(model)
    yield from stripped.left_behind(plain)
    if wanted is None:
        subject.skipped["stripping"] = "predictions not compared: the model cannot be called"
        return
    if not stripped.same(wanted, _predictions(plain, subject) or []):
        yield Finding("stripping", "predictions", "differ once the wrappers are taken off", 0)
    try:
        loaded, named = stripped.from_its_file(plain)
    except Exception as error:
        if _can_be_kept(subject):
            yield Finding("stripping", "file", "the stripped model cannot be saved and loaded, as "
                          f"the model that was never wrapped can: {one_line(error)}")
        else:
            subject.skipped["stripping"] = "not saved: Keras cannot load this model from a file, " \
                "wrapped or not"
        return
    if named:
        yield Finding("stripping", "file", "the stripped model's file names the package")
    if not stripped.same(wanted, _predictions(loaded, subject) or []):
        yield Finding("stripping", "predictions", "differ once it is saved and loaded", 0)


def _pruned_by_half(subject: Subject, model: Any, eagerly: bool) -> Iterator[Finding]:
    search = Search(model, fraction=0.5)
    if not (yield from _rewound("pruning", search)):
        return
    strays: dict[str, int] = {}
    graded: dict[str, int] = {}
    weights = {id(item.weight): (name, search.masks[name]) for name, item in masked(model).items()}
    steps = 0

    def after_step() -> None:
        nonlocal steps
        steps += 1
        for name, item in masked(model).items():
            if np.any(rewind.stored(item.weight)[search.masks[name] == 0]):
                strays.setdefault(name, steps)

    def see(variable: Any, gradient: Any) -> None:
        name, mask = weights.get(id(variable), ("", None))
        if mask is not None and gradient is not None and \
                np.any(tf.convert_to_tensor(gradient).numpy()[mask == 0]):
            graded.setdefault(name, steps + 1)
    optimizers = [held.value for held in contents(model) if is_optimizer(held.value)]
    with gradients_seen(optimizers, see) if eagerly else contextlib.nullcontext():
        recording = yield from _trained("pruning", subject, model, after_step)
    if recording is None:
        return
    how = "" if eagerly else ", compiled as build does"
    for name, step in strays.items():
        yield Finding("pruning", name, f"has pruned weights that are not zero{how}", step)
    for name, step in graded.items():
        yield Finding("pruning", name, "has pruned weights that get a gradient", step,
                      "its layer's code, which reads the weight other than by its attribute")
    for name, slots in _slots_moved(search).items():
        yield Finding("pruning", name, f"has pruned weights whose optimizer slots ({slots}) have "
                      f"moved{how}", steps)
    assert subject.dense is not None
    if eagerly:
        for name, count in unmoved(subject.dense, recording, search.masks).items():
            yield Finding("pruning", name, f"has {count:,} survivors of which none trains, though "
                          "they do in the dense model", steps, "a gradient that does not reach it")


def _trained(check: str, subject: Subject, model: Any, after_step: Any = None) -> Any:
    # A generator, so that a training that fails is a finding of its check. Returns the recording,
    # or None.
    try:
        return subject.train(model, after_step)
    except Exception as error:
        yield Finding(check, "training", "fails, though the model that is not wrapped trains: "
                      f"{one_line(error)}")
        return None


def _left_dense(model: Any) -> list[str]:
    # A note and not a finding: the user may have excluded them, but may also not know of them.
    pruned = {id(item.weight) for item in masked(model).values()}
    trained = {id(weight) for weight in model.trainable_weights}
    left = [name for name, weight in named_weights(model).items() if id(weight) in trained
            and id(weight) not in pruned and len(weight.shape) > 1]
    return [f"left dense, of rank 2 or more: {', '.join(left)}"] if left else []


def _rewound(check: str, search: Search) -> Any:
    # Likewise, a search that refuses to prune or rewind is a finding. Returns whether it did.
    try:
        search.prune_and_rewind()
    except LotteryError as error:
        yield Finding(check, "search", f"is refused: {error}")
        return False
    return True


def _predictions(model: Any, subject: Subject) -> Any:
    try:
        return stripped.predictions(model, subject.batches[0])
    except Exception:  # A model that consists of others, such as a GAN, need not have a call.
        return None


def _losses(model: Any) -> int:
    # The number of regularization and added losses in the last call of a model.
    try:
        return len(model.losses)
    except Exception:
        return 0


def _losses_lost(before: int, after: int, dense: Recording, wrapped: Recording) -> str:
    if after < before:
        return f"a loss: the model adds {before} losses, wrapped {after}"
    # The first loss is computed from equal weights, so it differs only if the loss itself does.
    if wrapped.losses and wrapped.losses[0] != dense.losses[0]:
        return "the loss, which differs at the first step"
    return ""


def _values(model: Any) -> dict[int, tuple[Held, Array]]:
    # All variables that a model holds, with their values, by id. Not masks, which pruning changes,
    # nor metrics, which every epoch resets.
    ours = {id(stored_in(variable)) for wrapper in wrappers(model)
            for variable in wrapper._non_trainable_weights}
    return {id(held.value): (held, rewind.stored(held.value)) for held in contents(model)
            if isinstance(held.value, tf.Variable)
            and id(stored_in(held.value)) not in ours
            and held.kind != "metric"}


def _put_back_seeds(model: Any, start: dict[int, tuple[Held, Array]]) -> list[str]:
    """Restores the states of seeds, and describes what else a rewinding has not restored.

    Args:
      model: the model after the rewinding.
      start: `_values` before the round.

    Returns:
      The probable causes of a round that differs, in words, each once.
    """
    suspects: dict[str, None] = {}
    for key, (held, value) in _values(model).items():
        kind = held.kind
        then = start[key][1] if key in start else None
        if kind == "seed":
            if then is not None:
                held.value.assign(then)
        elif np.any(value) if then is None else value.tobytes() != then.tobytes():
            if kind == "optimizer":
                owner = next(owner for owner in held.owners if is_optimizer(owner))
                path = held.path.split("._", 1)[0]
                suspects[f"an optimizer ({path}, {type(owner).__name__})"] = None
            else:
                suspects[f"a {kind} ({held.path})"] = None
    return list(suspects)


def _repeats(subject: Subject, first: Recording) -> bool:
    """Whether a model that is built again repeats the round; otherwise the check is skipped."""
    again = subject.train(subject.wrapped(**_STEP_BY_STEP))
    if not first.first_difference(again):
        return True
    subject.skipped["rewinding"] = (
        "two models that are built alike train differently, from the same weights, batches and "
        "seeds, so that rounds cannot be compared: draws without a seed, or operations that are "
        "not deterministic")
    return False


def _slots_moved(search: Search) -> dict[str, str]:
    # Weight name -> the slots that are not fresh in pruned places, which must have had a gradient.
    assert search.theta is not None
    slots, fresh = search.network.slots(search.theta)
    found: dict[str, list[str]] = {}
    for (name, slot), values in slots.items():
        if np.any(invariants.moved(values[search.masks[name] == 0], fresh[name, slot])):
            found.setdefault(name, []).append(slot)
    return {name: cut(names) for name, names in found.items()}


def _can_be_kept(subject: Subject) -> bool:
    # Whether Keras can save and load the model without wrappers: if not, stripping is not at fault.
    try:
        stripped.from_its_file(subject.plain())
    except Exception:
        return False
    return True
