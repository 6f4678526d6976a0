"""Controls with the ticket's masks, and other weights under them."""

from collections.abc import Callable

import numpy as np

from lth_keras.controls.control import register, TRAINED
from lth_keras.core.masks import Array, Arrays


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


@register("scratch", "from scratch, for the dense network's budget", drawn=True, budget=True)
def scratch(weights: Arrays, masks: Arrays, fresh: Arrays,
            rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Like reinit, but trained for the computation of the dense network (Liu et al. 2019)."""
    return fresh, masks


@register("reinit_signed", "re-initialised, signs kept", drawn=True, initial=True)
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


@register("constant", "constant magnitude", drawn=True, initial=True)
def constant(weights: Arrays, masks: Arrays, fresh: Arrays,
             rng: np.random.Generator) -> tuple[Arrays, Arrays]:
    """Survivors set to plus or minus the layer's initial standard deviation (the same)."""
    return _filled(weights, masks, lambda survivors, name: _deviation(
        fresh[name]) * rng.choice([-1.0, 1.0], survivors.size)), masks


@register("constant_signed", "constant magnitude, signs kept", drawn=True, initial=True)
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
