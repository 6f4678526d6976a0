import dataclasses

import pytest

from lth_keras.errors import LotteryError
from lth_keras.experiments.config import presets
from lth_keras.experiments.config.config import Config


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_is_found_by_its_name_and_described(name):
    assert presets.get(name).preset == name
    assert presets.DESCRIPTIONS[name].strip()


def test_every_description_belongs_to_a_preset():
    assert set(presets.DESCRIPTIONS) == set(presets.PRESETS)


def test_an_unknown_preset_lists_the_known_ones():
    known = "one of digits, lenet_300_100, "
    with pytest.raises(LotteryError, match=rf"{known}.*\. Received: 'mnist'"):
        presets.get("mnist")


def test_lenet_is_as_in_the_paper():
    config = presets.get("lenet_300_100")
    assert config.network == "lenet_300_100" and config.dataset == "mnist"
    assert (config.optimizer, config.learning_rate, config.batch_size) == ("adam", 1.2e-3, 60)
    assert (config.steps, config.validation_every, config.validation_size) == (50_000, 100, 5000)
    assert config.fraction == {"default": 0.2, "output": 0.1}
    assert (config.scope, config.criterion) == ("layer", "magnitude")
    assert config.replicates == 5 and config.branches == ("ticket", "reinit")


def test_conv2_is_as_in_the_paper():
    config = presets.get("conv2")
    assert config.network == "conv2" and config.dataset == "cifar10"
    assert (config.optimizer, config.learning_rate, config.batch_size) == ("adam", 2e-4, 60)
    assert (config.steps, config.validation_every, config.validation_size) == (20_000, 100, 5000)
    assert config.fraction == {"Conv2D": 0.1, "default": 0.2, "output": 0.1}
    assert (config.augmentation, config.dtype_policy) == ("none", "float32")


def test_every_preset_has_replicates_that_can_be_tested():
    assert all(config.replicates >= 3 for config in presets.PRESETS.values())


def test_digits_prunes_as_the_paper_does():
    assert presets.get("digits").fraction == presets.get("lenet_300_100").fraction


def settings(config, *names):
    return [getattr(config, name) for name in names]


@pytest.mark.parametrize(("number", "steps", "rate", "dropped", "conv"), [
    (2, 20_000, 2e-4, 3e-4, 0.1), (4, 25_000, 3e-4, 2e-4, 0.1), (6, 30_000, 3e-4, 2e-4, 0.15)])
def test_the_convolutional_networks_are_as_in_the_paper(number, steps, rate, dropped, conv):
    config = presets.get(f"conv{number}")
    names = ("network", "dataset", "optimizer", "batch_size", "scope", "augmentation", "dropout")
    assert settings(config, *names) == [f"conv{number}", "cifar10", "adam", 60, "layer", "none", 0]
    assert settings(config, "steps", "learning_rate") == [steps, rate]
    assert config.fraction == {"Conv2D": conv, "default": 0.2, "output": 0.1}
    with_dropout = presets.get(f"conv{number}_dropout")
    assert dataclasses.replace(with_dropout, preset=config.preset) == config.replace(
        steps=3 * steps, learning_rate=dropped, dropout=0.5)


@pytest.mark.parametrize(("suffix", "rate", "warmup"), [
    ("", 0.1, 0), ("_low", 0.01, 0), ("_warmup", 0.03, 20_000)])
def test_resnet18_is_as_in_the_paper(suffix, rate, warmup):
    config = presets.get(f"resnet18{suffix}")
    assert settings(config, "learning_rate", "warmup_steps", "steps", "batch_size", "scope") == [
        rate, warmup, 30_000, 128, "global"]
    assert settings(config, "learning_rate_drops", "measured_steps") == [
        (20_000, 25_000), (10_000, 20_000, 30_000)]
    assert settings(config, "optimizer", "momentum", "weight_decay", "augmentation") == [
        "sgd", 0.9, 1e-4, "flip_crop"]


@pytest.mark.parametrize("end", ["", "_layerwise"])
@pytest.mark.parametrize(("suffix", "rate", "warmup"), [
    ("", 0.1, 0), ("_low", 0.01, 0), ("_warmup", 0.1, 10_000)])
def test_vgg19_is_as_in_the_paper(suffix, rate, warmup, end):
    config = presets.get(f"vgg19{suffix}{end}")
    epoch = 703
    assert settings(config, "learning_rate", "warmup_steps", "steps", "batch_size", "scope") == [
        rate, warmup, 160 * epoch, 64, "layer" if end else "global"]
    assert settings(config, "learning_rate_drops", "measured_steps") == [
        (80 * epoch, 120 * epoch), (30_000, 60_000, 112_000)]
    assert settings(config, "optimizer", "momentum", "weight_decay", "augmentation") == [
        "sgd", 0.9, 1e-4, "flip_crop"]


@pytest.mark.parametrize("network", ["vgg16", "resnet56"])
@pytest.mark.parametrize(("suffix", "rate"), [("", 0.1), ("_low", 0.01)])
def test_liu_et_al_train_for_160_epochs_of_all_examples(network, suffix, rate):
    config = presets.get(f"{network}_liu{suffix}")
    assert settings(config, "network", "learning_rate", "steps", "batch_size", "scope") == [
        network, rate, 160 * 50_000 // 64, 64, "global"]
    assert config.learning_rate_drops == (62_500, 93_750)
    assert settings(config, "optimizer", "momentum", "weight_decay", "augmentation") == [
        "sgd", 0.9, 1e-4, "flip_crop"]


@pytest.mark.parametrize("name", [name for name in presets.PRESETS if "_l1_" in name])
def test_filters_are_pruned_once_on_the_schedule_of_liu_et_al(name):
    config, beside = presets.get(name), presets.get("vgg16_liu")
    assert settings(config, "steps", "learning_rate_drops", "batch_size", "optimizer", "momentum",
                    "weight_decay", "augmentation") == settings(
        beside, "steps", "learning_rate_drops", "batch_size", "optimizer", "momentum",
        "weight_decay", "augmentation")
    assert settings(config, "structure", "rounds", "criterion", "scope", "initializer") == [
        "filters", 1, "magnitude", "layer", "own"]
    assert config.learning_rate == (0.01 if name.endswith("_low") else 0.1)
    # Their 40 epochs of fine-tuning, at the last learning rate.
    tuned = config.replace(retraining="fine_tuning", rewind_step=93_750)
    assert tuned.steps - tuned.rewind_step == 40 * 50_000 // 64


def test_lenet_has_sgd_and_momentum_at_the_papers_best_rates():
    adam = presets.get("lenet_300_100")
    for name, low, high, momentum in (("sgd", 0.4, 0.8, 0.0), ("momentum", 0.025, 0.1, 0.9)):
        config = presets.get(f"lenet_300_100_{name}")
        assert low <= config.learning_rate <= high and config.momentum == momentum
        assert dataclasses.replace(config, preset=adam.preset, rounds=16) == adam.replace(
            optimizer="sgd", learning_rate=config.learning_rate, momentum=momentum)


def test_a_scaled_preset_scales_its_whole_schedule():
    config = presets.get("vgg19_warmup").scaled(0.1)
    assert settings(config, "steps", "warmup_steps", "learning_rate_drops", "measured_steps",
                    "validation_every", "scale") == [
        11_248, 1000, (5624, 8436), (3000, 6000, 11_000), 500, 0.1]
    # The validations come closer where the measured steps do.
    config = presets.get("resnet18").scaled(0.01)
    assert settings(config, "steps", "measured_steps", "validation_every") == [
        300, (100, 200, 300), 100]
    config = presets.get("lenet_300_100").scaled(0.001)
    assert settings(config, "steps", "validation_every") == [50, 50]


@pytest.mark.parametrize("name", presets.PRESETS)
@pytest.mark.parametrize("scale", [0.3, 0.1, 0.07, 0.01, 0.001])
def test_a_scaled_preset_ends_with_its_last_measured_step(name, scale):
    config = presets.get(name).scaled(scale)
    assert len(config.measured_steps) == len(presets.get(name).measured_steps)
    for step in config.measured_steps[-1:]:
        assert config.steps - config.validation_every < step <= config.steps


def test_a_preset_is_registered_once(monkeypatch):
    monkeypatch.setattr(presets, "PRESETS", dict(presets.PRESETS))
    monkeypatch.setattr(presets, "DESCRIPTIONS", dict(presets.DESCRIPTIONS))
    monkeypatch.setattr(presets, "WEIGHTS", dict(presets.WEIGHTS))
    mine = Config(preset="mine", network="lenet_300_100", dataset="digits", steps=100)
    presets.register(mine, "mine")
    with pytest.raises(LotteryError, match="Received: 'mine', which"):
        presets.register(mine.replace(steps=200), "another")
    assert presets.get("mine") is mine
    assert presets.DESCRIPTIONS["mine"] == "mine"
    assert "mine" not in presets.WEIGHTS
