"""`lth.prune_at_init`: a ticket from the scores of untrained weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.arguments import check_choice, check_number, check_share, check_whole
from lth_keras.core import masks as mask_arrays
from lth_keras.core.fractions import count
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.pruning import check_scores, without_lowest
from lth_keras.core.seeding import generator
from lth_keras.errors import LotteryError
from lth_keras.files import provenance
from lth_keras.files.ticket import Ticket
from lth_keras.initial.distributions import DISTRIBUTIONS, groups, Kept, SCHEDULES, steps
from lth_keras.initial.scored_model import describe, scored, ScoredModel, TEMPERATURE
from lth_keras.initial.synflow import NoPathError, path_scores, severs_none

# What scores a model: from the masks of an iteration to scores, by weight name.
Score = Callable[[Arrays], Arrays]
# Names of weights, and how many of all of theirs are kept after each iteration.
Targets = Sequence[tuple[Sequence[str], Sequence[int]]]
ITERATIONS = 100
METHODS = ("snip", "grasp", "synflow", "magnitude", "random")
WITH_DATA = ("snip", "grasp")


def prune_at_init(model: Any, method: str = "snip", *, density: float, data: Any = None,
                  loss: Any = None, distribution: str = "global",
                  iterations: "int | None" = None, schedule: str = "exponential",
                  temperature: float = TEMPERATURE, include: Any = (), exclude: Any = (),
                  seed: int = 0) -> Ticket:
    """Prunes a model before it is trained, by scores of its weights as they are.

    The weights with the lowest scores are pruned:

        snip       |g w|, to first order how much the loss changes without the weight
        grasp      w (H g), the lower, the more the gradient's norm grows without the weight
        synflow    w dR/dw of the sum R of all paths' |weights|, pruned in 100 iterations
        magnitude  |w|
        random     uniform random numbers

    with g and H the first and second derivatives of the mean loss over all of the data, layers in
    inference mode.  For grasp a classifier's logits are divided by `temperature`.  SynFlow's R has
    no biases, activations, statistics and normalisations (`initial.linear_network`).

    The model is not changed, and scored as it is; kernels are pruned, as by
    `lth.prune_low_magnitude`.  `ticket.apply(model)` prunes it, and it trains on sparse.

    Args:
      model: a built model of tf_keras, wrapped or not, or of Keras 3. For synflow it must be
        Sequential or functional.
      method: one of the above.
      density: the fraction of the prunable weights to keep, in (0, 1]. Of n weights,
        round(density x n) are kept, halves to the even number; of equal scores the first go.
      data: for snip and grasp: (x, y) or (x, y, sample_weight) of arrays, or a finite data set of
        such batches. The papers take 10 examples of each class or more.
      loss: the loss for snip and grasp, as `compile` takes it, of several outputs a list or dict;
        by default the compiled one. Regularisation is added to either.
      distribution: "global" compares the scores of all layers. With "uniform", "erk" and
        "balanced" each layer keeps a number of its own; see `initial.distributions`.
      iterations: how often synflow scores and prunes; 100 by default. An iteration that would
        leave no path from an input to an output is made in smaller steps, except with
        iterations=1.
      schedule: "exponential" or "linear": how much each iteration prunes.
      temperature: what grasp divides logits by, > 0, of each output whose loss is one of Keras'
        crossentropies.
      include: names, types or functions of layers to prune although they are left out by default;
        not of a wrapped model, which has been told already.
      exclude: names, types or functions of layers to keep dense; likewise.
      seed: of the method "random".

    Returns:
      A ticket of level 1: the model's weights, and the masks. Its provenance has the settings, the
      density that was reached, and how many examples there were.

    Raises:
      LotteryError: if an argument is not one of the above, the model is pruned already or has
        nothing to prune, the loss does not depend on a weight, a score is NaN, or synflow cannot
        keep so few weights and a path.

    Example:
      >>> import tf_keras as keras
      >>> model = keras.Sequential([
      ...     keras.layers.Input((4,)), keras.layers.Dense(20, "relu"), keras.layers.Dense(2)])
      >>> ticket = prune_at_init(model, "synflow", density=0.1)
      >>> {name: int(mask.sum()) > 0 for name, mask in ticket.masks.items()}, ticket.density
      ({'dense/kernel': True, 'dense_1/kernel': True}, 0.1)
      >>> sparse = ticket.apply(model)
      >>> sparse.compile("adam", "mse")  # And fit it.

    Reference: Lee et al., ICLR 2019 (SNIP, arXiv:1810.02340); Wang et al., ICLR 2020 (GraSP,
    arXiv:2002.07376); Tanaka et al., NeurIPS 2020 (SynFlow, arXiv:2006.05467).
    """
    check_choice("method", method, METHODS)
    check_choice("distribution", distribution, DISTRIBUTIONS)
    check_choice("schedule", schedule, SCHEDULES)
    check_share("density", density)
    check_whole("seed", seed)
    if not check_number("temperature", temperature) > 0:
        raise LotteryError(f"temperature must be above 0. Received: {temperature!r}.")
    _check_needed(method, data, loss, iterations)
    times = (ITERATIONS if iterations is None else iterations) if method == "synflow" else 1
    found = scored(model, include=include, exclude=exclude, loss=loss,
                   temperature=float(temperature))
    size = sum(int(np.prod(shape)) for shape in found.shapes.values())
    number = count(density, size)
    if not number:
        raise LotteryError("density must keep at least one weight. Received: "
                           f"{density!r} of {size:,} prunable weights.")
    settings = {"at_init": method, "density": density, "distribution": distribution, "seed": seed}
    if method == "synflow":
        settings |= {"iterations": times, "schedule": schedule}
    if method in WITH_DATA:
        settings |= {"data": describe(found.batches(data), found.flat),
                     **({} if loss is None else {"loss": _name(loss)})}
    if method == "grasp":
        settings["temperature"] = float(temperature)
    weights = found.weights()
    masks = masks_at_init(found, method, groups(found.shapes, number, distribution), data=data,
                          seed=seed, iterations=times, schedule=schedule)
    return Ticket(weights, masks, 1, {
        "versions": provenance.versions(found.packages), "settings": settings,
        "fingerprint": provenance.fingerprint(settings),
        "density": mask_arrays.density(masks), "kept": mask_arrays.kept(masks), "size": size})


def masks_at_init(found: ScoredModel, method: str, kept: Kept, *, data: Any = None, seed: int = 0,
                  iterations: int = ITERATIONS, schedule: str = "exponential",
                  inverted: bool = False) -> dict[str, Array]:
    """Prunes a model by scores of its weights as they are, to given numbers of weights.

    Args:
      found: the model.
      method: one of METHODS.
      kept: names of weights whose scores are compared, and how many of all of theirs are kept.
      data: for snip and grasp, (x, y) or as `prune_at_init` takes it.
      seed: for random.
      iterations: of synflow.
      schedule: of synflow, one of SCHEDULES.
      inverted: whether to prune the highest scores in place of the lowest, those of the dense
        model: an iteration that prunes synflow's best paths would leave none.

    Returns:
      Weight name -> uint8 mask.

    Raises:
      LotteryError: if a score is NaN, or synflow cannot keep so few weights and a path.
    """
    score = score_of(method, found, found.weights(), data, seed)
    if inverted:
        of = score
        score = lambda masks: {name: np.negative(value) for name, value in of(masks).items()}  # noqa: E731
    times = iterations if method == "synflow" and not inverted else 1
    sizes = {name: int(np.prod(shape)) for name, shape in found.shapes.items()}
    return _pruned(found.shapes, [
        (names, steps(sum(sizes[name] for name in names), number, times, schedule))
        for names, number in kept], score)


def _check_needed(method: str, data: Any, loss: Any, iterations: "int | None") -> None:
    if method in WITH_DATA and data is None:
        raise LotteryError(f"{method} needs data=(x, y), of which it takes the gradient of the "
                           "loss. Received: none. Without data there are synflow, magnitude and "
                           "random.")
    given = {"data": data if method not in WITH_DATA else None,
             "loss": loss if method not in WITH_DATA else None,
             "iterations": iterations if method != "synflow" else None}
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise LotteryError("data and loss are for snip and grasp, iterations for synflow. "
                           f"Received: {', '.join(unused)} with method={method!r}. Leave "
                           f"{'it' if len(unused) == 1 else 'them'} out.")
    if iterations is not None:
        check_whole("iterations", iterations, least=1)


def _name(loss: Any) -> Any:
    if isinstance(loss, Mapping):
        return {name: _name(one) for name, one in loss.items()}
    if isinstance(loss, (list, tuple)):
        return [_name(one) for one in loss]
    return next(str(name) for name in (getattr(loss, "name", None),
                                       getattr(loss, "__name__", None), loss) if name is not None)


def score_of(method: str, found: ScoredModel, weights: Arrays, data: Any = None,
             seed: int = 0) -> Score:
    """The function that scores a model in every iteration.

    Args:
      method: one of METHODS.
      found: the model.
      weights: its weights by name.
      data: for snip and grasp.
      seed: for random.

    Returns:
      A function from the masks of an iteration, which only synflow needs, to scores by weight
      name, float64.
    """
    prunable = {name: np.asarray(weights[name], np.float64) for name in found.shapes}
    if method == "synflow":
        sizes, gradient = {name: np.abs(value) for name, value in prunable.items()}, \
            found.path_gradient()
        return lambda masks: path_scores(mask_arrays.apply(sizes, masks), gradient)
    rng = generator(seed, "prune_at_init")
    once: Mapping[str, Callable[[], dict[str, Array]]] = {
        "snip": lambda: _products(prunable, found.gradient(found.batches(data)), np.abs),
        "grasp": lambda: _products(prunable, found.hessian_gradient(found.batches(data))),
        "magnitude": lambda: {name: np.abs(value) for name, value in prunable.items()},
        "random": lambda: {name: rng.random(value.shape) for name, value in prunable.items()}}
    return lambda masks: once[method]()


def _products(first: Arrays, other: Arrays,
              then: Callable[[Array], Array] = np.positive) -> dict[str, Array]:
    return {name: then(np.multiply(value, other[name])) for name, value in first.items()}


def _pruned(shapes: Mapping[str, tuple[int, ...]], together: Targets,
            score: Score) -> dict[str, Array]:
    masks = mask_arrays.ones(shapes)
    scores: Arrays = {}
    times = len(together[0][1])
    for iteration in range(times):
        scores = scores or score(masks)
        check_scores(scores, masks)
        before, targets = masks, [(names, kept[iteration]) for names, kept in together]
        for names, number in targets:
            part = {name: masks[name] for name in names}
            masks = masks | without_lowest(scores, part, mask_arrays.kept(part) - number)
        if times > 1:  # SynFlow, which is to leave a path; with one iteration it is as it is.
            try:
                scores = score(masks)
            except NoPathError:
                masks, scores = _in_small_steps(before, scores, targets, score)
    return masks


def _in_small_steps(masks: dict[str, Array], scores: Arrays,
                    targets: Sequence[tuple[Sequence[str], int]],
                    score: Score) -> tuple[dict[str, Array], Arrays]:
    for names, number in targets:
        part = {name: masks[name] for name in names}
        while (excess := mask_arrays.kept(part) - number) > 0:
            # One at least: if it is on every path, the next scores say that none is left.
            step = min(excess, max(1, severs_none(scores, part)))
            part = without_lowest(scores, part, step)
            masks = masks | part
            scores = score(masks)
    return masks, scores
