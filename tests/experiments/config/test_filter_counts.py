"""Liu et al. 2019, section 6: what each configuration keeps and costs, without any training."""

import itertools

import filter_claims
import filter_counts
import pytest

from lth_keras.core.fractions import count
from lth_keras.experiments.config import presets

# The layers that they prune, by the numbers of convolutions in their code.
PRUNED = {"vgg16_l1_a": [1, *range(8, 14)],
          "resnet56_l1_a": [n for n in range(2, 56, 2) if n not in (16, 20, 38, 54)],
          "resnet56_l1_b": [n for n in range(2, 56, 2) if n not in (16, 18, 20, 34, 38, 54)],
          "resnet110_l1_a": [n for n in range(2, 37, 2) if n != 36],
          "resnet110_l1_b": [n for n in range(2, 110, 2) if n not in (36, 38, 74)]}


@pytest.mark.parametrize("suffix", ["", "_low"])
@pytest.mark.parametrize("name", filter_claims.CONFIGURATIONS)
def test_a_configuration_keeps_and_costs_what_the_papers_say(name, suffix):
    config = presets.get(name + suffix)
    _, widths, parameters, macs, epochs = filter_claims.CONFIGURATIONS[name]
    left = filter_claims.kept(name + suffix)
    assert tuple(dict.fromkeys(left.values())) == widths
    assert [int(layer.rpartition("conv")[2]) for layer in left] == PRUNED[name]
    assert config.fraction["default"] == 0 and config.rounds == 1
    dense = filter_counts.counted(config.network)
    pruned = filter_counts.counted(config.network, left)
    assert 100 * (1 - pruned.parameters / dense.parameters) == pytest.approx(parameters, abs=0.1)
    assert 100 * (1 - pruned.macs / dense.macs) == pytest.approx(macs, abs=0.1)
    assert int(160 * dense.flops / pruned.flops) == epochs


@pytest.mark.parametrize(("name", "stage", "theirs"), [
    ("resnet56_l1_a", 2, 0.1), ("resnet56_l1_a", 3, 0.1), ("resnet56_l1_b", 1, 0.6),
    ("resnet56_l1_b", 3, 0.1), ("resnet110_l1_b", 2, 0.4), ("resnet110_l1_b", 3, 0.3)])
def test_the_shares_stand_for_theirs_which_are_truncated(name, stage, theirs):
    config = presets.get(name)
    share = next(share for layer, share in config.fraction.items() if f"stage{stage}" in layer)
    size = 16 * 2**(stage - 1)
    assert size - count(share, size) == int(size * (1 - theirs))
    assert abs(share - theirs) < 1 / size


@pytest.mark.parametrize(("name", "densities"), [
    ("lenet5_filters", {"conv1": (20, 10, 5, 3), "conv2": (50, 25, 13, 7),
                        "fc1": (500, 250, 125, 63)}),
    ("conv2_filters", {"conv1": (64, 45, 31, 22), "fc1": (256, 179, 125, 87)})])
def test_small_networks_keep_whole_filters_at_three_densities(name, densities):
    config = presets.get(name)
    for widths in densities.values():
        for one, less in itertools.pairwise(widths):
            assert one - count(config.fraction, one) == less
    assert config.rounds == 3 and config.replicates == 5
