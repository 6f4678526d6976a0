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

A control of a sparse training finds its own masks, in the same number of steps and of as many
weights in each layer: `method` says by which (`sparse_training`), and what it starts from are
theta_0 and the numbers of weights that the ticket's masks keep.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from lth_keras.arguments import check_choice
from lth_keras.core.masks import Arrays, costs
from lth_keras.core.structures.single_weights import NONE
from lth_keras.core.structures.structure import Structure
from lth_keras.errors import LotteryError

Make = Callable[..., tuple[Arrays, Arrays]]
Provided = Mapping[str, Callable[[], Arrays]]  # Need -> computes an array for each weight name.
MASKS = ("ticket", "structured", "free")
# What a control can need -> what it is, and where there is such a thing.
INVERTED, THETA_0, TRAINED = "inverted", "theta_0", "trained"
NEEDS: dict[str, str] = {
    INVERTED: "masks of as many weights as the ticket's, with the scores that its are made of "
              "compared the other way around; with strategies that score initial weights",
    THETA_0: "the weights of step 0, also if the ticket's are of a later one",
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
      drawn: whether its weights are of step 0, freshly initialised or theta_0.  It then trains from
        there, even if the ticket trains from step k.
      budget: whether it trains for as much computation as the dense network.
      mask: which mask it has, one of MASKS: "ticket" for the ticket's; "structured" for one of its
        own in the structure of the search, which `make` gets too; "free" for any other.
      needs: what `make` takes by name too, keys of NEEDS.
      method: the sparse training that finds its masks; "" for masks that stay as they are made.
      initial: whether it takes the ticket's weights for those before training, theta_0 or theta_k.
    """

    name: str
    title: str
    make: Make
    drawn: bool
    budget: bool = False
    mask: str = "ticket"
    needs: tuple[str, ...] = ()
    method: str = ""
    initial: bool = False

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
          >>> from lth_keras.controls.known import CONTROLS
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
             mask: str = "ticket", *, needs: tuple[str, ...] = (), method: str = "",
             initial: bool = False) -> Callable[[Make], Make]:
    """Registers a function as a control.

    Args:
      name: the name of its branch.
      title: its name in legends.
      drawn: whether its weights are of step 0.
      budget: whether it trains for as much computation as the dense network.
      mask: which mask it has; see `Control`.
      needs: what it takes by name besides the four arguments, keys of NEEDS.
      method: the sparse training that finds its masks; see `Control`.
      initial: whether it takes the ticket's weights for those before training.

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
        CONTROLS[name] = Control(name, title, make, drawn, budget, mask, needs, method,
                                 initial)
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
      >>> from lth_keras.controls.known import CONTROLS
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
