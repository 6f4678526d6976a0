"""Controls: what a ticket is compared with.  From a ticket, another start with as few weights.

A control sees the ticket and the same network drawn anew:

    weights, masks = control.make(weights, masks, fresh, rng)

    weights  the ticket's weights by name: theta_0, or theta_k
    masks    its masks
    fresh    every weight of the network drawn anew, from its layer's own initializer
    rng      a numpy Generator, for controls that draw more

Only weights that have a mask are changed, but by those controls that take all weights fresh.
Where weights are pruned in a structure (`core.structures`), so are those of its controls:
one whose mask is "structured" gets the structure as a fifth argument, and one whose mask is
"free" is refused.

To add one, write that function and `register` it; `--branches` then knows its name.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from lth_keras.arguments import check_choice
from lth_keras.core.masks import Array, Arrays, kept, size
from lth_keras.core.structures.single_weights import NONE
from lth_keras.core.structures.structure import Structure
from lth_keras.errors import LotteryError

Make = Callable[..., tuple[Arrays, Arrays]]
MASKS = ("ticket", "structured", "free")


@dataclasses.dataclass(frozen=True)
class Control:
    """One kind of control.

    Attributes:
      name: of the branch.
      title: what a legend calls it.
      make: makes its start of a ticket.
      drawn: whether its weights are initial ones.  Then it is trained from step 0 on, also where
        the ticket goes on from step k.
      budget: whether it is trained for as much computation as the dense network.
      mask: whose mask it has: the ticket's; its own, in the structure that weights are pruned
        in, which `make` takes too; or its own, anywhere.  One of MASKS.
    """

    name: str
    title: str
    make: Make
    drawn: bool
    budget: bool = False
    mask: str = "ticket"

    def start(self, weights: Arrays, masks: Arrays, fresh: Arrays, rng: np.random.Generator,
              structure: Structure = NONE) -> tuple[Arrays, Arrays]:
        """What it is trained from: the control of a ticket in a structure.

        Raises:
          LotteryError: if it makes masks that are not of the structure.
        """
        more = (structure,) if self.mask == "structured" else ()
        made, masks_made = self.make(weights, masks, fresh, rng, *more)
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
             mask: str = "ticket") -> Callable[[Make], Make]:
    """Makes a control known by name.

    Example:
      >>> @register("same", "the ticket again", drawn=False)
      ... def same(weights, masks, fresh, rng):
      ...     return weights, masks
      >>> CONTROLS.pop("same").title
      'the ticket again'
    """
    check_choice("mask", mask, MASKS)

    def add(make: Make) -> Make:
        if name in CONTROLS:
            raise LotteryError(f"A control's name is taken once. Received: {name!r} again.")
        CONTROLS[name] = Control(name, title, make, drawn, budget, mask)
        return make
    return add


def steps_of(control: Control, steps: int, masks: Arrays) -> int:
    """How long a control is trained where the dense network is trained for so many steps.

    With `budget`, until it has cost as much as the dense network's training, a masked weight
    costing nothing, but at most twice as long: Liu et al. 2019 (section 3, Scratch-B).

    Example:
      >>> half = {"w": np.array([1, 1, 1, 0])}
      >>> steps_of(CONTROLS["scratch"], 300, half), steps_of(CONTROLS["reinit"], 300, half)
      (400, 300)
    """
    return min(2 * steps, round(steps * size(masks) / kept(masks))) if control.budget else steps


@register("reinit", "re-initialised", drawn=True)
def reinit(weights: Arrays, masks: Arrays, fresh: Arrays,
           rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """The ticket's mask, all weights drawn anew (Frankle & Carbin 2019, section 2)."""
    return fresh, masks


@register("random_mask", "random mask", drawn=True, mask="structured")
def random_mask(weights: Arrays, masks: Arrays, fresh: Arrays, rng: np.random.Generator,
                structure: Structure = NONE) -> tuple[Arrays, Arrays]:
    """Another network, with as many weights in each layer, anywhere (the same, figure 1)."""
    return fresh, {name: structure.shuffled(mask, rng) for name, mask in masks.items()}


@register("random_mask_global", "random mask, layers together", drawn=True, mask="free")
def random_mask_global(weights: Arrays, masks: Arrays, fresh: Arrays,
                       rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Another network, with as many weights in all, anywhere.

    Layers of which nothing has been pruned stay whole.
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
    """The ticket's weights, as many of each layer, but any (Frankle et al., ICLR 2021)."""
    return weights, {name: structure.shuffled(mask, rng) for name, mask in masks.items()}


@register("magnitude_at_init", "largest at initialisation", drawn=False, mask="free")
def magnitude_at_init(weights: Arrays, masks: Arrays, fresh: Arrays,
                      rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """The ticket's weights, as many of each layer, those largest before training.

    Frankle & Carbin 2019, appendix F.
    """
    largest = {}
    for name, mask in masks.items():
        order = np.argsort(-np.abs(weights[name]).ravel(), kind="stable")
        chosen = np.zeros(mask.size, mask.dtype)
        chosen[order[:np.count_nonzero(mask)]] = 1
        largest[name] = chosen.reshape(mask.shape)
    return weights, largest


@register("scratch", "from scratch, for the dense network's budget", drawn=True, budget=True)
def scratch(weights: Arrays, masks: Arrays, fresh: Arrays,
            rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """As reinit, but trained as long as the dense network's budget lasts (Liu et al. 2019)."""
    return fresh, masks


@register("reinit_signed", "re-initialised, signs kept", drawn=True)
def reinit_signed(weights: Arrays, masks: Arrays, fresh: Arrays,
                  rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Drawn anew, with the signs of the ticket's weights (Zhou et al. 2019, section 4.1)."""
    return {**fresh, **{name: np.copysign(fresh[name], weights[name]) for name in masks}}, masks


@register("reshuffle", "survivors reshuffled", drawn=False)
def reshuffle(weights: Arrays, masks: Arrays, fresh: Arrays,
              rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """The values of a layer's survivors, each in the place of another (the same)."""
    return _filled(weights, masks, lambda survivors, _: rng.permutation(survivors)), masks


@register("reshuffle_signed", "survivors reshuffled, signs kept", drawn=False)
def reshuffle_signed(weights: Arrays, masks: Arrays, fresh: Arrays,
                     rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """The magnitudes of a layer's survivors reshuffled, the signs in their places (the same)."""
    return _filled(weights, masks, lambda survivors, _: np.copysign(
        rng.permutation(survivors), survivors)), masks


@register("constant", "constant magnitude", drawn=True)
def constant(weights: Arrays, masks: Arrays, fresh: Arrays,
             rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Survivors at plus or minus the layer's standard deviation at initialisation (the same)."""
    return _filled(weights, masks, lambda survivors, name: _deviation(
        fresh[name]) * rng.choice([-1.0, 1.0], survivors.size)), masks


@register("constant_signed", "constant magnitude, signs kept", drawn=True)
def constant_signed(weights: Arrays, masks: Arrays, fresh: Arrays,
                    rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Survivors at that standard deviation, with the signs of the ticket's weights (the same)."""
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
        """The ticket's weights and Gaussian noise, of so many of the layer's standard deviations.

        Frankle & Carbin 2019, appendix F (figure 25).
        """
        return _filled(weights, masks, lambda survivors, name: np.add(
            survivors, rng.normal(0.0, deviations * _deviation(fresh[name]), survivors.size))), \
            masks


for _deviations in (0.5, 1, 2, 3):
    _with_noise(_deviations)


def _deviation(values: Array) -> float:
    return float(np.std(values.astype(np.float64)))


def _filled(weights: Arrays, masks: Arrays, values: Callable[[Array, str], Array]) -> Arrays:
    # The weights, with other values for the survivors of each mask.
    filled = dict(weights)
    for name, mask in masks.items():
        filled[name] = np.array(weights[name])
        survivors = filled[name][mask != 0]
        filled[name][mask != 0] = values(survivors, name).astype(survivors.dtype)
    return filled
