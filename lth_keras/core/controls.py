"""Controls: networks with as few weights as a ticket, which it is compared with.

A control makes the start of a training from a ticket and from the same network initialised again:

    weights, masks = control.make(weights, masks, fresh, rng)

    weights  the ticket's weights by name: theta_0, or theta_k
    masks    its masks
    fresh    every weight of the network, drawn again from its layer's initializer
    rng      a numpy Generator, for controls that draw more random numbers

A control that needs more declares it, `register(..., needs=("inverted",))`, and gets it by name;
`NEEDS` lists what can be needed.

A control changes only weights that have a mask, or else takes all weights from `fresh`.  If weights
are pruned in a structure (`core.structures`), a control must keep to it: one registered with
mask="structured" gets the structure as a fifth argument, and one with mask="free" cannot be used.

To add a control, write such a function and `register` it; `--branches` then accepts its name.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from lth_keras.arguments import check_choice
from lth_keras.core.masks import Array, Arrays, costs
from lth_keras.core.structures.single_weights import NONE
from lth_keras.core.structures.structure import Structure
from lth_keras.errors import LotteryError

Make = Callable[..., tuple[Arrays, Arrays]]
Provided = Mapping[str, Callable[[], Arrays]]  # Need -> computes an array for each weight name.
MASKS = ("ticket", "structured", "free")
# What a control can need -> what it is, and where there is such a thing.
TRAINED = "trained"
NEEDS: dict[str, str] = {
    "inverted": "masks of as many weights as the ticket's, with the scores that its are made of "
                "compared the other way around; with strategies that score initial weights",
    TRAINED: "the trained weights that were scored to make the ticket's masks; with strategies "
             "that score trained weights",
}


@dataclasses.dataclass(frozen=True)
class Control:
    """One kind of control.

    Attributes:
      name: the name of its branch.
      title: its name in legends.
      make: the function that makes its weights and masks from a ticket.
      drawn: whether its weights are freshly initialised.  It then trains from step 0, even if the
        ticket trains from step k.
      budget: whether it trains for as much computation as the dense network.
      mask: which mask it has, one of MASKS: "ticket" for the ticket's; "structured" for one of its
        own in the structure of the search, which `make` gets too; "free" for any other.
      needs: what `make` takes by name too, keys of NEEDS.
    """

    name: str
    title: str
    make: Make
    drawn: bool
    budget: bool = False
    mask: str = "ticket"
    needs: tuple[str, ...] = ()

    def start(self, weights: Arrays, masks: Arrays, fresh: Arrays, rng: np.random.Generator,
              structure: Structure = NONE, *,
              provided: "Provided | None" = None) -> tuple[Arrays, Arrays]:
        """Makes the weights and masks that the control is trained from.

        Args:
          weights: the ticket's weights by name.
          masks: the ticket's masks by name.
          fresh: all weights of the network, initialised again.
          rng: the random generator of the control.
          structure: the structure that the ticket was pruned in.
          provided: need -> a function that computes it, called only if the control needs it.

        Returns:
          Weights and masks, by name.

        Raises:
          LotteryError: if the control makes masks that do not have the structure, or what it
            needs is not provided.

        Example:
          >>> ticket = {"w": np.array([1.0, -2.0])}, {"w": np.array([1, 0])}
          >>> fresh = {"w": np.array([0.5, 0.25])}
          >>> CONTROLS["reinit_signed"].start(*ticket, fresh, np.random.default_rng(0))[0]
          {'w': array([ 0.5 , -0.25])}
        """
        more = (structure,) if self.mask == "structured" else ()
        missing = [need for need in self.needs if need not in (provided or {})]
        if missing:
            raise LotteryError(f"The control {self.name} needs {missing[0]}: {NEEDS[missing[0]]}. "
                               "Received: none.")
        needed = {need: (provided or {})[need]() for need in self.needs}
        made, masks_made = self.make(weights, masks, fresh, rng, *more, **needed)
        pruned = [name for name, mask in masks.items() if not np.all(mask)]
        wrong = [name for name in pruned if structure.obeys(masks[name])
                 and not structure.obeys(masks_made[name])]
        if wrong:
            raise LotteryError(f"A control must keep to structure={structure}; register it with "
                               f"mask=\"free\" if it cannot. Received: {self.name}, whose masks "
                               f"of {', '.join(wrong)} do not.")
        return made, masks_made


CONTROLS: dict[str, Control] = {}


def register(name: str, title: str, drawn: bool, budget: bool = False,
             mask: str = "ticket", *, needs: tuple[str, ...] = ()) -> Callable[[Make], Make]:
    """Registers a function as a control.

    Args:
      name: the name of its branch.
      title: its name in legends.
      drawn: whether its weights are freshly initialised.
      budget: whether it trains for as much computation as the dense network.
      mask: which mask it has; see `Control`.
      needs: what it takes by name besides the four arguments, keys of NEEDS.

    Returns:
      A decorator for the function, which returns it unchanged.

    Raises:
      LotteryError: if the name is taken, mask is not one of MASKS, or a need is not in NEEDS.

    Example:
      >>> @register("same", "the ticket again", drawn=False)
      ... def same(weights, masks, fresh, rng):
      ...     return weights, masks
      >>> CONTROLS.pop("same").title
      'the ticket again'
    """
    check_choice("mask", mask, MASKS)
    for need in needs:
        check_choice("A need", need, NEEDS)

    def add(make: Make) -> Make:
        if name in CONTROLS:
            raise LotteryError(f"A control's name must be new. Received: {name!r}, which is "
                               "taken.")
        CONTROLS[name] = Control(name, title, make, drawn, budget, mask, needs)
        return make
    return add


def steps_of(control: Control, steps: int, masks: Arrays,
             uses: "Mapping[str, float] | None" = None) -> int:
    """Returns how many steps a control is trained for.

    With `budget` it trains for longer than the dense network: until it has cost as much, if pruned
    weights cost nothing, but at most twice as long (Liu et al. 2019, section 3, Scratch-B).

    Args:
      control: the control.
      steps: the training steps of the dense network.
      masks: the masks of the control.
      uses: weight name -> how often each number is multiplied with for an example, so that costs
        are multiply-adds (Liu et al. count those); by default each weight counts once.

    Example:
      >>> half = {"w": np.array([1, 1, 1, 0])}
      >>> steps_of(CONTROLS["scratch"], 300, half), steps_of(CONTROLS["reinit"], 300, half)
      (400, 300)
      >>> steps_of(CONTROLS["scratch"], 300, {**half, "b": np.ones(4)}, {"w": 1.0, "b": 9.0})
      308
    """
    if not control.budget:
        return steps
    whole, left = costs(masks, uses)
    return min(2 * steps, round(steps * whole / left))


@register("reinit", "re-initialised", drawn=True)
def reinit(weights: Arrays, masks: Arrays, fresh: Arrays,
           rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """The ticket's mask, all weights initialised again (Frankle & Carbin 2019, section 2).

    Example:
      >>> mask = {"w": np.array([1, 0])}
      >>> reinit({"w": np.array([3.0, 4.0])}, mask, {"w": np.array([0.1, 0.2])}, None)
      ({'w': array([0.1, 0.2])}, {'w': array([1, 0])})
    """
    return fresh, masks


@register("random_mask", "random mask", drawn=True, mask="structured")
def random_mask(weights: Arrays, masks: Arrays, fresh: Arrays, rng: np.random.Generator,
                structure: Structure = NONE) -> tuple[Arrays, Arrays]:
    """Fresh weights, and a random mask that keeps as many in each layer (the same, figure 1).

    Example:
      >>> mask = {"a": np.array([1, 1, 0, 0]), "b": np.array([1, 0, 0, 0])}
      >>> drawn = random_mask({}, mask, {}, np.random.default_rng(0))[1]
      >>> {name: int(values.sum()) for name, values in drawn.items()}
      {'a': 2, 'b': 1}
    """
    return fresh, structure.shuffled_together(masks, rng)


@register("random_mask_global", "random mask, layers together", drawn=True, mask="free")
def random_mask_global(weights: Arrays, masks: Arrays, fresh: Arrays,
                       rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Fresh weights, and a random mask that keeps as many in total, over all layers.

    Layers from which nothing has been pruned stay dense.

    Example:
      >>> mask = {"a": np.array([1, 1, 0, 0]), "b": np.array([1, 0]), "c": np.array([1, 1])}
      >>> drawn = random_mask_global({}, mask, {}, np.random.default_rng(0))[1]
      >>> int(drawn["a"].sum() + drawn["b"].sum()), drawn["c"]
      (3, array([1, 1]))
    """
    touched = {name: mask for name, mask in masks.items() if not np.all(mask)}
    if not touched:
        return fresh, masks
    flat = rng.permutation(np.concatenate([np.ravel(mask) for mask in touched.values()]))
    parts = np.split(flat, np.cumsum([mask.size for mask in touched.values()])[:-1])
    drawn = {name: part.reshape(masks[name].shape)
             for name, part in zip(touched, parts, strict=True)}
    return fresh, {**masks, **drawn}


@register("shuffled_mask", "shuffled mask", drawn=False, mask="structured")
def shuffled_mask(weights: Arrays, masks: Arrays, fresh: Arrays, rng: np.random.Generator,
                  structure: Structure = NONE) -> tuple[Arrays, Arrays]:
    """The ticket's weights; its masks shuffled in each layer (Frankle et al., ICLR 2021)."""
    return weights, structure.shuffled_together(masks, rng)


@register("magnitude_at_init", "largest at initialisation", drawn=False, mask="free")
def magnitude_at_init(weights: Arrays, masks: Arrays, fresh: Arrays,
                      rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """The ticket's weights; a mask of the largest in each layer, as many as the ticket keeps.

    Frankle & Carbin 2019, appendix F.

    Example:
      >>> weights, mask = {"w": np.array([1.0, -3.0, 2.0])}, {"w": np.array([1, 0, 0])}
      >>> magnitude_at_init(weights, mask, {}, None)[1]
      {'w': array([0, 1, 0])}
    """
    largest = {}
    for name, mask in masks.items():
        order = np.argsort(-np.abs(weights[name]).ravel(), kind="stable")
        chosen = np.zeros(mask.size, mask.dtype)
        chosen[order[:np.count_nonzero(mask)]] = 1
        largest[name] = chosen.reshape(mask.shape)
    return weights, largest


@register("inverted", "scores inverted", drawn=False, mask="free", needs=("inverted",))
def inverted(weights: Arrays, masks: Arrays, fresh: Arrays, rng: np.random.Generator,
             inverted: Arrays) -> tuple[Arrays, Arrays]:
    """The ticket's weights; a mask of those with the lowest scores at initialisation.

    If it trains as well as the ticket, the scores do not say what to prune (Frankle et al., ICLR
    2021, section 5).

    Example:
      >>> inverted({"w": np.ones(2)}, {"w": np.array([1, 0])}, {}, None, {"w": np.array([0, 1])})
      ({'w': array([1., 1.])}, {'w': array([0, 1])})
    """
    return weights, inverted


@register("scratch", "from scratch, for the dense network's budget", drawn=True, budget=True)
def scratch(weights: Arrays, masks: Arrays, fresh: Arrays,
            rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Like reinit, but trained for the computation of the dense network (Liu et al. 2019)."""
    return fresh, masks


@register("reinit_signed", "re-initialised, signs kept", drawn=True)
def reinit_signed(weights: Arrays, masks: Arrays, fresh: Arrays,
                  rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Fresh weights with the signs of the ticket's (Zhou et al. 2019, section 4.1).

    Example:
      >>> mask, fresh = {"w": np.array([1, 1])}, {"w": np.array([0.5, 0.25])}
      >>> reinit_signed({"w": np.array([3.0, -4.0])}, mask, fresh, None)[0]
      {'w': array([ 0.5 , -0.25])}
    """
    return {**fresh, **{name: np.copysign(fresh[name], weights[name]) for name in masks}}, masks


@register("reshuffle", "survivors reshuffled", drawn=False)
def reshuffle(weights: Arrays, masks: Arrays, fresh: Arrays,
              rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """The values of a layer's survivors, randomly permuted (the same).

    Example:
      >>> weights, mask = {"w": np.array([1.0, 2.0, 3.0, 4.0])}, {"w": np.array([1, 1, 1, 0])}
      >>> permuted = reshuffle(weights, mask, {}, np.random.default_rng(0))[0]["w"]
      >>> sorted(permuted[:3].tolist()), float(permuted[3])
      ([1.0, 2.0, 3.0], 4.0)
    """
    return _filled(weights, masks, lambda survivors, _: rng.permutation(survivors)), masks


@register("reshuffle_signed", "survivors reshuffled, signs kept", drawn=False)
def reshuffle_signed(weights: Arrays, masks: Arrays, fresh: Arrays,
                     rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """The magnitudes of a layer's survivors permuted; every sign stays (the same).

    Example:
      >>> weights, mask = {"w": np.array([1.0, -2.0, 3.0])}, {"w": np.array([1, 1, 1])}
      >>> permuted = reshuffle_signed(weights, mask, {}, np.random.default_rng(0))[0]["w"]
      >>> sorted(abs(permuted).tolist()), np.sign(permuted).tolist()
      ([1.0, 2.0, 3.0], [1.0, -1.0, 1.0])
    """
    return _filled(weights, masks, lambda survivors, _: np.copysign(
        rng.permutation(survivors), survivors)), masks


@register("constant", "constant magnitude", drawn=True)
def constant(weights: Arrays, masks: Arrays, fresh: Arrays,
             rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Survivors set to plus or minus the layer's initial standard deviation (the same)."""
    return _filled(weights, masks, lambda survivors, name: _deviation(
        fresh[name]) * rng.choice([-1.0, 1.0], survivors.size)), masks


@register("constant_signed", "constant magnitude, signs kept", drawn=True)
def constant_signed(weights: Arrays, masks: Arrays, fresh: Arrays,
                    rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Survivors set to that standard deviation with the signs of the ticket's (the same).

    Example:
      >>> mask, fresh = {"w": np.array([1, 1])}, {"w": np.array([2.0, -2.0])}
      >>> constant_signed({"w": np.array([0.5, -0.25])}, mask, fresh, None)[0]
      {'w': array([ 2., -2.])}
    """
    return _filled(weights, masks, lambda survivors, name: np.copysign(
        _deviation(fresh[name]), survivors)), masks


@register("resample", "drawn from the survivors", drawn=False)
def resample(weights: Arrays, masks: Arrays, fresh: Arrays,
             rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Survivors drawn, with replacement, from the values of their layer's survivors.

    Frankle & Carbin 2019, appendix F.
    """
    return _filled(weights, masks,
                   lambda survivors, _: rng.choice(survivors, survivors.size)), masks


def _with_noise(deviations: float) -> None:
    @register(f"noise_{deviations:g}", f"noise of {deviations:g} sigma", drawn=False)
    def noise(weights: Arrays, masks: Arrays, fresh: Arrays,
              rng: np.random.Generator) -> tuple[Arrays, Arrays]:
        """The ticket's weights plus Gaussian noise, whose deviation is a multiple of the layer's.

        Frankle & Carbin 2019, appendix F (figure 25).
        """
        return _filled(weights, masks, lambda survivors, name: np.add(
            survivors, rng.normal(0.0, deviations * _deviation(fresh[name]), survivors.size))), \
            masks


for _deviations in (0.5, 1, 2, 3):
    _with_noise(_deviations)


@register("reinit_trained_signs", "re-initialised, trained signs", drawn=True, needs=(TRAINED,))
def reinit_trained_signs(weights: Arrays, masks: Arrays, fresh: Arrays, rng: np.random.Generator,
                         trained: Arrays) -> tuple[Arrays, Arrays]:
    """Fresh weights with the signs that training gave them: the signed mask of the ticket.

    The signs are those of the network whose trained weights made the mask, which exists before the
    ticket is trained; `reinit_signed` has the signs before training.  Gadhikar & Burkholz (ICLR
    2024, arXiv:2402.19262) and Oh et al. (ICLR 2025, arXiv:2504.05357) ask whether mask and signs
    alone make any initialisation learn as well.  Weights without a mask, such as biases and those
    of normalisation, are fresh.

    Example:
      >>> mask, fresh = {"w": np.array([1, 1])}, {"w": np.array([0.5, 0.25])}
      >>> reinit_trained_signs({}, mask, fresh, None, trained={"w": np.array([-3.0, 4.0])})[0]
      {'w': array([-0.5 ,  0.25])}
    """
    return {**fresh, **{name: np.copysign(fresh[name], trained[name]) for name in masks}}, masks


def _deviation(values: Array) -> float:
    return float(np.std(values.astype(np.float64)))


def _filled(weights: Arrays, masks: Arrays, values: Callable[[Array, str], Array]) -> Arrays:
    # A copy of the weights whose survivors are replaced by `values(survivors, weight name)`.
    filled = dict(weights)
    for name, mask in masks.items():
        filled[name] = np.array(weights[name])
        survivors = filled[name][mask != 0]
        filled[name][mask != 0] = values(survivors, name).astype(survivors.dtype)
    return filled
