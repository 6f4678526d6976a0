import pytest

from lth_keras import presets
from lth_keras.config import Config
from lth_keras.errors import LotteryError


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_is_found_by_its_name_and_described(name):
    assert presets.get(name).preset == name
    assert presets.DESCRIPTIONS[name].strip()


def test_every_description_belongs_to_a_preset():
    assert set(presets.DESCRIPTIONS) == set(presets.PRESETS)


def test_an_unknown_preset_lists_the_known_ones():
    known = "one of digits, lenet_300_100, conv2"
    with pytest.raises(LotteryError, match=rf"{known}.*\. Received: 'mnist'"):
        presets.get("mnist")


def test_lenet_is_as_in_the_paper():
    config = presets.get("lenet_300_100")
    assert config.network == "lenet_300_100" and config.dataset == "mnist"
    assert (config.optimizer, config.learning_rate, config.batch_size) == ("adam", 1.2e-3, 60)
    assert (config.steps, config.validation_every, config.validation_size) == (50_000, 100, 5000)
    assert config.fraction == {"default": 0.2, "output": 0.1}
    assert (config.scope, config.criterion) == ("layer", "magnitude")
    assert config.replicates == 1 and config.branches == ("ticket", "reinit")


def test_conv2_is_as_in_the_paper():
    config = presets.get("conv2")
    assert config.network == "conv2" and config.dataset == "cifar10"
    assert (config.optimizer, config.learning_rate, config.batch_size) == ("adam", 2e-4, 60)
    assert (config.steps, config.validation_every, config.validation_size) == (20_000, 100, 5000)
    assert config.fraction == {"Conv2D": 0.1, "default": 0.2, "output": 0.1}
    assert (config.augmentation, config.dtype_policy) == ("none", "float32")


def test_digits_prunes_as_the_paper_does():
    assert presets.get("digits").fraction == presets.get("lenet_300_100").fraction


def test_a_preset_is_registered_once(monkeypatch):
    monkeypatch.setattr(presets, "PRESETS", dict(presets.PRESETS))
    monkeypatch.setattr(presets, "DESCRIPTIONS", dict(presets.DESCRIPTIONS))
    mine = Config(preset="mine", network="lenet_300_100", dataset="digits", steps=100)
    presets.register(mine, "mine")
    with pytest.raises(LotteryError, match="Received: 'mine' again"):
        presets.register(mine.replace(steps=200), "another")
    assert presets.get("mine") is mine
    assert presets.DESCRIPTIONS["mine"] == "mine"
