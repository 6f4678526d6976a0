"""The papers' numbers of weights, and P_m at every level, from the presets' own networks."""

import pytest
from ladders import ladder, weights
from tiers import short_and_long

from lth_keras.core.fractions import resolve
from lth_keras.experiments.config import presets
from lth_keras.experiments.training.networks import NETWORKS

# Kernel weights: all, and those of convolutions that are pruned (Frankle & Carbin 2019, figure 2).
# For Conv-6 the paper says 1.7 million; the layers that it lists have 2,261,184.
WEIGHTS = {"lenet_300_100": (266_200, 0), "conv2": (4_300_992, 38_592),
           "conv4": (2_425_024, 259_776), "conv6": (2_261_184, 1_144_512),
           "resnet18": (270_896, 267_696), "vgg19": (20_024_000, 20_018_880),
           "vgg16": (14_715_584, 14_710_464), "resnet56": (851_504, 850_864),
           "lenet5": (430_500, 25_500), "vgg16_fc512": (14_977_728, 14_710_464),
           "resnet56_padded": (848_944, 848_304), "resnet110_padded": (1_719_856, 1_719_216)}

# Preset -> round -> P_m in percent, as the paper's text states it.  For Conv-6 it states 26.4 and
# 15.1, which no count of its layers gives.
LADDERS = {
    "lenet_300_100": {3: 51.3, 4: 41.1, 7: 21.1, 9: 13.5, 15: 3.6, 16: 2.9},
    "conv2": {11: 8.8, 14: 4.6},
    "conv4": {11: 11.1, 12: 9.2, 15: 5.4},
    "conv6": {7: 26.6, 10: 15.3},
    "resnet18": {4: 41.7, 6: 27.1, 7: 21.9, 10: 11.8},
    "vgg19": {12: 6.9, 15: 3.5, 19: 1.5},
    # At densities of this package's own.
    "lenet_300_100_at_init": {1: 40.0, 4: 2.6}, "lenet_300_100_sparse": {5: 2.0},
    "lenet_300_100_supermask": {1: 50.0, 3: 12.5},
}
VARIANTS = {
    "lenet_300_100": ("lenet_300_100_sgd", "lenet_300_100_momentum"),
    **{f"conv{number}": (f"conv{number}_dropout",) for number in (2, 4, 6)},
    "resnet18": ("resnet18_low", "resnet18_warmup"),
    "vgg19": ("vgg19_low", "vgg19_warmup", "vgg19_layerwise", "vgg19_low_layerwise",
              "vgg19_warmup_layerwise"),
}


@pytest.mark.parametrize("name", short_and_long(
    NETWORKS, [name for name in NETWORKS if not name.startswith(("resnet56", "resnet110"))],
    pytest.mark.thorough))
def test_a_network_has_the_papers_weights(name):
    found, sizes = weights(name, "mnist" if name.startswith("lenet") else "cifar10")
    convolutions = sum(sizes[item.name] for item in found if item.layer_type == "Conv2D"
                       and not (name == "resnet18" and "shortcut" in item.layer))
    assert (sum(sizes.values()), convolutions) == WEIGHTS[name]
    assert [item.layer for item in found if item.output] == [found[-1].layer]


@pytest.mark.thorough
@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_has_the_weights_that_are_listed_with_it(name):
    assert ladder(presets.get(name))[0] == presets.WEIGHTS[name]


@pytest.mark.parametrize(("name", "level", "density"), [
    (name, level, density) for name, levels in LADDERS.items()
    for level, density in levels.items()])
def test_a_level_has_the_papers_density(name, level, density):
    remaining = ladder(presets.get(name))
    assert f"{100 * remaining[level] / remaining[0]:.1f}" == f"{density:.1f}"


@pytest.mark.parametrize(("variant", "name"), [
    (variant, name) for name, variants in VARIANTS.items() for variant in variants])
def test_a_variant_prunes_as_the_first_of_its_network(variant, name):
    # By layer and globally counts may differ by a weight a layer and round.
    one, other = ladder(presets.get(variant)), ladder(presets.get(name))
    slack = 20 * len(other) if presets.get(variant).scope != presets.get(name).scope else 0
    assert all(abs(mine - its) <= slack for mine, its in zip(one, other, strict=False))


@pytest.mark.parametrize("name", [name for name in presets.PRESETS if name.endswith("liu")])
def test_liu_et_al_prune_every_convolution_and_nothing_else(name):
    config = presets.get(name)
    found, sizes = weights(config.network, config.dataset)
    kept = {item for item, fraction in resolve(config.fraction, found).items() if not fraction}
    assert kept == {"fc/kernel"}
    total = sum(sizes.values())
    assert ladder(config)[1] == total - round(0.2 * (total - sizes["fc/kernel"]))


def test_every_preset_has_its_ladder_tested():
    liu = {name for name in presets.PRESETS if "liu" in name}
    # Those of filters are counted in tests/experiments/config/test_filter_counts.py.
    tested = {*LADDERS, *(variant for variants in VARIANTS.values() for variant in variants)}
    whole = {name for name, config in presets.PRESETS.items() if config.structure == "filters"}
    assert {*presets.PRESETS} == tested | liu | whole | {"digits"}


@pytest.mark.parametrize("name", ["resnet18", "vgg19"])
def test_shortcuts_and_the_last_layer_are_not_pruned(name):
    config = presets.get(name)
    found, sizes = weights(config.network, config.dataset)
    kept = {item: sizes[item] for item, fraction in resolve(config.fraction, found).items()
            if not fraction}
    assert kept == {"resnet18": {"stage2_block1_shortcut/kernel": 512,
                                 "stage3_block1_shortcut/kernel": 2048, "fc/kernel": 640},
                    "vgg19": {"fc/kernel": 5120}}[name]
