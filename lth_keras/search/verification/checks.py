"""The four checks of `lth.verify`.

Each is a generator of findings, so that a training that fails ends its check but not the report.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from lth_keras.arguments import one_line
from lth_keras.core import invariants
from lth_keras.core.verification import cut, Finding, Recording, unmoved
from lth_keras.errors import LotteryError
from lth_keras.search.search import Search
from lth_keras.search.verification.subject import EAGERLY, same, STEP_BY_STEP, Subject


def all_of(subject: Subject) -> Iterator[Finding]:
    """Makes the four checks, in their order."""
    first, second, third, last = subject.checks
    yield from masking(subject, first)
    yield from rewinding(subject, first, second)
    yield from pruning(subject, third)
    yield from keeping(subject, last)


def masking(subject: Subject, check: str) -> Iterator[Finding]:
    """Checks that the model with masks, with nothing pruned, trains like the model without them.

    Both train eagerly: there, unlike in two different graphs, equal operations draw equal random
    numbers.
    """
    plain = subject.plain(**EAGERLY)
    predicted, penalties = subject.predictions(plain), subject.losses(plain)
    subject.dense = dense = subject.train(plain)
    model = subject.eager = subject.masked(**EAGERLY)
    subject.notes += subject.left_dense(model)
    if predicted is not None and not same(predicted, subject.predictions(model) or []):
        yield Finding(check, "predictions", f"differ from those of {subject.bare}", 0,
                      subject.own_code)
    recording = yield from _trained(check, subject, model)
    if recording is None:
        return
    lost = _losses_lost(penalties, subject.losses(model), dense, recording, subject.covered)
    for name, step in dense.drift(recording).items():
        still = np.array_equal(recording.final[name], recording.start[name])
        cause = subject.no_gradient if still else lost
        yield Finding(check, name, "does not train" if still else
                      f"is not trained as in {subject.bare}", step, cause)


def rewinding(subject: Subject, first_check: str, check: str) -> Iterator[Finding]:
    """Checks that a round that is rewound without pruning gives the same bits again."""
    # Compiled as the user does: unlike two models, the same compiled step repeats its bits.
    model = subject.masked(**STEP_BY_STEP)
    search = subject.search(model, 0.0, check=True)
    start = subject.values(model)
    first = yield from _trained(check, subject, model)
    if first is None:
        return
    if not (yield from _rewound(check, search)):
        return
    # Seeds go on by design when a search rewinds, but here the second round must draw the same.
    suspects = subject.put_back_seeds(model, start)
    again = yield from _trained(check, subject, model)
    if again is None:
        return
    subject.pruned = model
    yield from _compiled_differs(subject, first_check, first)
    found = first.first_difference(again)
    # A model that would not repeat its training even when built again is not evidence of a fault.
    if found and _repeats(subject, check, first):
        cause = f"{cut(suspects)}, not rewound" if suspects else \
            "something that no variable holds, such as a number that Python counts"
        for name, step in found.items():
            yield Finding(check, name, "ends another round than it did before", step, cause)


def _compiled_differs(subject: Subject, check: str, masked: Recording) -> Iterator[Finding]:
    """Yields findings for a model with masks that trains wrongly when compiled, but not eagerly.

    In two graphs, or compiled by XLA, equal models agree only up to rounding.  An optimizer such as
    Adam enlarges rounding where gradients are zero, so not the weights are compared but the losses,
    and which weights train at all.
    """
    plain = subject.plain(**STEP_BY_STEP)
    if plain.run_eagerly or subject.dense is None:
        return
    dense = subject.train(plain)
    masks = {name: np.ones(value.shape, np.uint8) for name, value in dense.start.items()}
    for name in unmoved(dense, masked, masks):
        yield Finding(check, name, "does not train, compiled as build does", len(dense.losses),
                      subject.no_gradient)
    step = dense.losses_differ(masked)
    if step is not None and not _draws(subject, dense):
        yield Finding(check, "loss", f"differs from that of {subject.bare}, compiled as build does",
                      step)


def _draws(subject: Subject, first: Recording) -> bool:
    """Whether a training draws random numbers, which differ in two graphs even for equal seeds."""
    other = subject.train(subject.plain(**STEP_BY_STEP), seed=subject.seed + 1)
    return bool(first.first_difference(other))


def pruning(subject: Subject, check: str) -> Iterator[Finding]:
    """Checks, with half of the weights pruned, that they stay zero and that survivors train."""
    if subject.dense is None:
        return
    # Eagerly, where each gradient can be seen; and compiled as the user trains.
    for model, eagerly in ((subject.eager, True), (subject.pruned, False)):
        if model is not None:
            yield from _pruned_by_half(subject, check, model, eagerly)


def keeping(subject: Subject, check: str) -> Iterator[Finding]:
    """Checks that the model without masks, saved and loaded, predicts the same, free of ours."""
    # The model of the pruning check: with full masks a lost mask would not be noticed.
    if subject.pruned is None:
        subject.skipped[check] = "not made, since the model could not be trained"
    else:
        yield from subject.kept(subject.pruned)


def _pruned_by_half(subject: Subject, check: str, model: Any, eagerly: bool) -> Iterator[Finding]:
    search = subject.search(model, 0.5)
    if not (yield from _rewound(check, search)):
        return
    strays: dict[str, int] = {}
    graded: dict[str, int] = {}
    variables = subject.weights(model)
    weights = {id(variables[name]): (name, mask) for name, mask in search.masks.items()}
    steps = 0

    def after_step() -> None:
        nonlocal steps
        steps += 1
        for name, value in search.network.prunable_weights().items():
            if np.any(value[search.masks[name] == 0]):
                strays.setdefault(name, steps)

    def see(variable: Any, gradient: Any) -> None:
        name, mask = weights.get(id(variable), ("", None))
        if mask is not None and gradient is not None and np.any(gradient[mask == 0]):
            graded.setdefault(name, steps + 1)
    with subject.gradients_seen(model, see) if eagerly else contextlib.nullcontext():
        recording = yield from _trained(check, subject, model, after_step)
    if recording is None:
        return
    how = "" if eagerly else ", compiled as build does"
    for name, step in strays.items():
        yield Finding(check, name, f"has pruned weights that are not zero{how}", step)
    for name, step in graded.items():
        yield Finding(check, name, "has pruned weights that get a gradient", step,
                      subject.seen_gradient)
    for name, slots in _slots_moved(search).items():
        yield Finding(check, name, f"has pruned weights whose optimizer slots ({slots}) have "
                      f"moved{how}", steps)
    assert subject.dense is not None
    if eagerly:
        for name, count in unmoved(subject.dense, recording, search.masks).items():
            yield Finding(check, name, f"has {count:,} survivors of which none trains, though "
                          "they do in the dense model", steps, "a gradient that does not reach it")


def _trained(check: str, subject: Subject, model: Any, after_step: Any = None) -> Any:
    # A generator, so that a training that fails is a finding of its check. Returns the recording,
    # or None.
    try:
        return subject.train(model, after_step)
    except Exception as error:
        yield Finding(check, "training", f"fails, though {subject.bare} trains: "
                      f"{one_line(error)}")
        return None


def _rewound(check: str, search: Search) -> Any:
    # Likewise, a search that refuses to prune or rewind is a finding. Returns whether it did.
    try:
        search.prune_and_rewind()
    except LotteryError as error:
        yield Finding(check, "search", f"is refused: {error}")
        return False
    return True


def _losses_lost(before: int, after: int, dense: Recording, masked: Recording,
                 covered: str) -> str:
    if after < before:
        return f"a loss: the model adds {before} losses, {covered} {after}"
    # The first loss is computed from equal weights, so it differs only if the loss itself does.
    if masked.losses and masked.losses[0] != dense.losses[0]:
        return "the loss, which differs at the first step"
    return ""


def _repeats(subject: Subject, check: str, first: Recording) -> bool:
    """Whether a model that is built again repeats the round; otherwise the check is skipped."""
    again = subject.train(subject.masked(**STEP_BY_STEP))
    if not first.first_difference(again):
        return True
    subject.skipped[check] = (
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
