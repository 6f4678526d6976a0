"""Presets: the papers' experiments by name.

To add a preset, `register` a `Config` here; `lth presets` and `lth run --help` then list it.

Settings that a paper states are the paper's.  Others are the same in all presets: pixels in
[0, 1], 5,000 training examples held out for validation, and as many rounds as the sparsest network
of the paper's claims needs.  With one replicate nothing could be tested: there are five of a LeNet
and of Conv-2 to -6, as in the paper's figures 3 and 5, and three of the deep networks, which is
what a verdict on few levels takes (`--branches ticket,reinit@7`).  Strategies and rewinding are
settings to be changed, such as `--set strategy=one_shot`.
"""

from typing import Any

from lth_keras.arguments import meant
from lth_keras.core.pruning import Scope
from lth_keras.errors import LotteryError
from lth_keras.experiments.config.config import Config

# Three dicts by name: descriptions and weights are no settings, and must not change fingerprints.
PRESETS: dict[str, Config] = {}
DESCRIPTIONS: dict[str, str] = {}
WEIGHTS: dict[str, int] = {}


def register(config: Config, description: str, weights: int | None = None) -> None:
    """Adds a preset, so that `lth.run` and `lth run` accept its name, `config.preset`.

    Args:
      config: the settings.
      description: one line for `lth presets`.
      weights: the number of prunable weights of its network on its data set, if known.

    Raises:
      LotteryError: if a preset with this name is already registered.

    Example:
      >>> register(Config(preset="tiny", network="lenet_300_100", dataset="digits", steps=100),
      ...          "LeNet-300-100 on digits, for 100 steps")
      >>> get("tiny").steps
      100
      >>> del PRESETS["tiny"], DESCRIPTIONS["tiny"]
    """
    if config.preset in PRESETS:
        raise LotteryError("A preset must have a name that no other preset has. Received: "
                           f"{config.preset!r}, which is already registered.")
    PRESETS[config.preset] = config
    DESCRIPTIONS[config.preset] = description
    if weights is not None:
        WEIGHTS[config.preset] = weights


def get(name: str) -> Config:
    """Returns the settings of a preset.

    Raises:
      LotteryError: if no preset has this name; the message lists all names, and suggests one.

    Example:
      >>> get("lenet_300_100").steps
      50000
      >>> get("mnist")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
        ...
      lth_keras.errors.LotteryError: ... Did you mean lenet_300_100, which trains on mnist?
    """
    if name not in PRESETS:
        raise LotteryError(f"A preset must be one of {', '.join(PRESETS)}. "
                           f"Received: {name!r:.100}.{_meant(name)}")
    return PRESETS[name]


def _meant(name: object) -> str:
    # People type a data set's name, a part of a preset's, or the paper's own spelling.
    word = str(name)[:100].lower().replace("-", "_")
    trains_on = next((preset for preset, config in PRESETS.items()
                      if config.dataset == word.replace("_", "")), None)
    if trains_on and word not in PRESETS:
        return f" Did you mean {trains_on}, which trains on {PRESETS[trains_on].dataset}?"
    begun = next((preset for preset in PRESETS if len(word) > 2 and preset.startswith(word)), None)
    return f" Did you mean {begun}?" if begun else meant(word, PRESETS)


_DENSE = {"default": 0.2, "output": 0.1}  # Frankle & Carbin 2019, figure 2.

# A minute of two cores goes into replicates, which a verdict needs, at one level that is chosen
# beforehand: the first that the paper draws (51.3% of the weights; 51.6% here), since each level
# more costs a training a replicate.  In 1,500 steps nearly all early stops are reached.  One of
# the 360 test images is 0.28 points, so that 0.2 points cannot be told: 1 point is the margin,
# MLPerf's 99% of the reference.  (Steps and level were fixed by runs of other seeds than those
# whose verdicts docs/experiments.md counts; there are as many replicates as a minute allows.)
register(
    Config(preset="digits", network="lenet_300_100", dataset="digits", fraction=_DENSE,
           steps=1500, rounds=3, replicates=14, branches=("ticket", "reinit@last"),
           validation_every=20, validation_size=300, margin="accuracy:0.01"),
    "LeNet-300-100 on scikit-learn's 8x8 digits: no download, a verdict in a minute", 50_200)


# LeNet-300-100 on MNIST (Frankle & Carbin 2019, section 2 and appendix G, which finds SGD best
# at 0.4 to 0.8, and SGD with momentum at 0.025 to 0.1).
def _lenet(preset: str, text: str, **settings: Any) -> None:
    register(Config(preset=preset, network="lenet_300_100", dataset="mnist", fraction=_DENSE,
                    steps=50_000, replicates=5, **settings),
             f"LeNet-300-100 on MNIST as in Frankle & Carbin 2019, {text}, batches of 60", 266_200)


_lenet("lenet_300_100", "section 2: Adam 1.2e-3", rounds=16)
_lenet("lenet_300_100_sgd", "appendix G: SGD 0.8 (of its best 0.4 to 0.8)", optimizer="sgd",
       learning_rate=0.8, rounds=21)
_lenet("lenet_300_100_momentum", "appendix G: SGD 0.05 (of its best 0.025 to 0.1), momentum 0.9",
       optimizer="sgd", learning_rate=0.05, momentum=0.9, rounds=16)


# Scores at initialisation on LeNet-300-100 (Frankle et al., ICLR 2021): 40 epochs of batches of
# 128, all layers compared; at fewer densities than theirs, with the sanity checks of section 5.
# Other methods are `--set strategy=`.
register(Config(preset="lenet_300_100_at_init", network="lenet_300_100", dataset="mnist",
                strategy="snip", scope="global", fraction=0.6, rounds=4, replicates=5,
                steps=17_200, batch_size=128, optimizer="sgd", learning_rate=0.1,
                branches=("ticket", "shuffled_mask", "reinit", "inverted"),
                margin="accuracy:0.003"),
         "LeNet-300-100 on MNIST pruned before training as in Frankle et al. 2021: SNIP, with its "
         "sanity checks", 266_200)


# Tickets beside what is sparse from the start, or becomes so in one training (Evci et al., ICML
# 2020; their LeNet-300-100 has 2% of its weights too, Nesterov momentum and 200 epochs): five
# rounds, of which the last leaves 2.0%; 20 epochs.
register(Config(preset="lenet_300_100_sparse", network="lenet_300_100", dataset="mnist",
                scope="global", fraction=0.5427, rounds=5, replicates=5, steps=11_000,
                batch_size=100, optimizer="sgd", learning_rate=0.1, momentum=0.9,
                weight_decay=1e-4, margin="accuracy:0.003",
                branches=("ticket", "reinit@last", "random_mask@last", "gradual@last", "set@last",
                          "rigl@last")),
         "LeNet-300-100 on MNIST with 2% of its weights: a ticket, SET, RigL, gradual pruning, a "
         "static mask", 266_200)

# Half, a quarter and an eighth of the weights of an untrained network, as edge-popup, learned
# probabilities and binary weights choose them; the ticket is a random mask, trained.  Adam, since
# these need different learning rates with SGD.
register(Config(preset="lenet_300_100_supermask", network="lenet_300_100", dataset="mnist",
                strategy="random_at_init", fraction=0.5, rounds=3, replicates=5, steps=8600,
                batch_size=128, initializer="he_normal", margin="accuracy:0.003",
                branches=("ticket", "edge_popup", "bernoulli", "biprop")),
         "LeNet-300-100 on MNIST, its weights never trained, only which of them are kept", 266_200)


# Conv-2, -4 and -6 on CIFAR-10 (the same, sections 3 and 5).
def _conv(number: int, suffix: str, text: str, learning_rate: float, **settings: Any) -> None:
    conv = {2: 0.1, 4: 0.1, 6: 0.15}[number]
    register(Config(preset=f"conv{number}{suffix}", network=f"conv{number}", dataset="cifar10",
                    learning_rate=learning_rate, fraction={"Conv2D": conv, **_DENSE},
                    rounds={2: 17, 4: 21, 6: 21}[number], replicates=5, **settings),
             f"Conv-{number} on CIFAR-10 as in Frankle & Carbin 2019, {text}: Adam "
             f"{1e4 * learning_rate:g}e-4, batches of 60",
             {2: 4_300_992, 4: 2_425_024, 6: 2_261_184}[number])


for _number, _steps, _plain, _dropped in (
        (2, 20_000, 2e-4, 3e-4), (4, 25_000, 3e-4, 2e-4), (6, 30_000, 3e-4, 2e-4)):
    _conv(_number, "", "section 3", _plain, steps=_steps)
    _conv(_number, "_dropout", "section 5, half of the hidden units dropped", _dropped,
          steps=3 * _steps, dropout=0.5)


# The deep networks.  validation_every=500 divides all steps at which the papers report accuracy,
# or rewind to: a network is seen only where it is validated.
_DEEP: dict[str, Any] = {"dataset": "cifar10", "optimizer": "sgd", "momentum": 0.9,
                         "weight_decay": 1e-4, "augmentation": "flip_crop",
                         "validation_every": 500, "replicates": 3}


# VGG-19 and the paper's Resnet-18 (the same, section 4): convolutions are pruned; shortcuts and
# the last layer are not, but count in the density.
def _resnet18(suffix: str, text: str, **settings: Any) -> None:
    kept = {"output": 0.0, "stage2_block1_shortcut": 0.0, "stage3_block1_shortcut": 0.0}
    register(Config(preset=f"resnet18{suffix}", network="resnet18", steps=30_000, batch_size=128,
                    learning_rate_drops=(20_000, 25_000), measured_steps=(10_000, 20_000, 30_000),
                    fraction={"Conv2D": 0.2, **kept}, scope="global", rounds=10, **_DEEP,
                    **settings),
             "Resnet-18 (20 layers) on CIFAR-10 as in Frankle & Carbin 2019, section 4: SGD "
             f"{text}, global pruning", 270_896)


_resnet18("", "0.1", learning_rate=0.1)
_resnet18("_low", "0.01", learning_rate=0.01)
_resnet18("_warmup", "0.03 after 20,000 steps of warm-up", learning_rate=0.03, warmup_steps=20_000)


# The paper's "112K" steps are 160 epochs of 703 steps, 112,480.  Its accuracy "at 112K" is the
# final one; 112,000 is the last step before the end that is validated.
def _vgg19(suffix: str, text: str, **settings: Any) -> None:
    scopes: tuple[tuple[str, Scope, str], ...] = (
        ("", "global", "global"), ("_layerwise", "layer", "layer-wise"))
    for end, scope, said in scopes:
        register(Config(preset=f"vgg19{suffix}{end}", network="vgg19", steps=112_480,
                        batch_size=64, learning_rate_drops=(56_240, 84_360),
                        measured_steps=(30_000, 60_000, 112_000),
                        fraction={"Conv2D": 0.2, "output": 0.0}, scope=scope, rounds=19,
                        **_DEEP, **settings),
                 "VGG-19 on CIFAR-10 as in Frankle & Carbin 2019, section 4: SGD "
                 f"{text}, {said} pruning", 20_024_000)


_vgg19("", "0.1", learning_rate=0.1)
_vgg19("_low", "0.01", learning_rate=0.01)
_vgg19("_warmup", "0.1 after 10,000 steps of warm-up", learning_rate=0.1, warmup_steps=10_000)

# Liu et al. 2019, section 6: 160 epochs of all 50,000 examples are 125,000 steps, which are taken
# here on the 45,000 examples that are not held out.  All convolutions are pruned, shortcuts too.
# Two differences: weights are initialised and pixels scaled as in the other presets (the paper
# uses He initialisation and standardised pixels).
for _network, _title, _weights in (("vgg16", "VGG-16", 14_715_584),
                                   ("resnet56", "ResNet-56", 851_504)):
    for _suffix, _rate in (("", 0.1), ("_low", 0.01)):
        register(Config(preset=f"{_network}_liu{_suffix}", network=_network, steps=125_000,
                        batch_size=64, learning_rate=_rate, learning_rate_drops=(62_500, 93_750),
                        fraction={"Conv2D": 0.2, "output": 0.0}, scope="global", rounds=10,
                        **_DEEP),
                 f"{_title} on CIFAR-10 on the schedule of Liu et al. 2019, section 6: SGD "
                 f"{_rate}, global pruning", _weights)


# The same section's filters, which Li et al. 2017 prune by their L1 norm: once, so many in each
# layer, in VGG-16 and in the first convolutions of the blocks of ResNets.  (Tickets: a level of
# one round; Scratch-E: reinit; Scratch-B: scratch.  Steps 93,750 to 125,000 are their 40 epochs of
# fine-tuning, retraining=fine_tuning with rewind_step=93750.)  Weights are drawn as in their code.
# They keep int(filters x (1 - p)) filters of a layer; the shares here give these numbers, since
# ours are rounded to the nearest.  Three differences: 5,000 examples are held out, pixels are not
# standardised, and accuracy is that at the end or at early stop, not the best on test data.
def _l1(preset: str, network: str, title: str, fraction: dict[str, float], weights: int) -> None:
    for suffix, rate in (("", 0.1), ("_low", 0.01)):
        register(Config(preset=f"{preset}{suffix}", network=network, steps=125_000, batch_size=64,
                        learning_rate=rate, learning_rate_drops=(62_500, 93_750),
                        fraction={**fraction, "default": 0.0}, structure="filters", rounds=1,
                        branches=("ticket", "reinit", "scratch"), margin="accuracy:0.003",
                        **{**_DEEP, "validation_every": 625}),
                 f"{title} on CIFAR-10 as in Liu et al. 2019, section 6: SGD {rate}, filters by "
                 "L1 norm", weights)


def _first_convolutions(depth: int, kept: tuple[int, int, int],
                        dense: tuple[int, ...]) -> dict[str, float]:
    # By their code's numbers: so many of 16, 32 and 64 filters are kept, but of `dense` all.
    blocks = (depth - 2) // 6
    shares = {f"stage{stage + 1}_conv{2 * (stage * blocks + block + 1)}":
              1 - kept[stage] / (16 * 2**stage) for stage in range(3) for block in range(blocks)}
    return {name: share for name, share in shares.items()
            if share and int(name.rpartition("conv")[2]) not in dense}


_l1("vgg16_l1_a", "vgg16_fc512", "VGG-16-A",
    dict.fromkeys(["conv1", *(f"conv{number}" for number in range(8, 14))], 0.5), 14_977_728)
for _preset, _depth, _kept, _dense_ones in (
        ("resnet56_l1_a", 56, (14, 28, 57), (16, 20, 38, 54)),
        ("resnet56_l1_b", 56, (6, 22, 57), (16, 18, 20, 34, 38, 54)),
        ("resnet110_l1_a", 110, (8, 32, 64), (36,)),
        ("resnet110_l1_b", 110, (8, 19, 44), (36, 38, 74))):
    _l1(_preset, f"resnet{_depth}_padded", f"ResNet-{_depth}-{_preset[-1].upper()}",
        _first_convolutions(_depth, _kept, _dense_ones),
        {56: 848_944, 110: 1_719_856}[_depth])


# Whole filters and units at three densities, on networks that two cores can afford.  LeNet-5 keeps
# half of them in each round, Conv-2 0.7, which is half of its multiply-adds; on a tenth of
# Conv-2's steps.  The learning rate drops as Liu et al.'s does, since fine-tuning at the last rate
# would otherwise be training on.
def _filters(preset: str, description: str, weights: int, *, steps: int, **settings: Any) -> None:
    register(Config(preset=preset, steps=steps, learning_rate_drops=(steps // 2, steps * 3 // 4),
                    structure="filters", rounds=3, replicates=5,
                    branches=("ticket", "reinit", "scratch"), margin="accuracy:0.003", **settings),
             description, weights)


_filters("lenet5_filters", "LeNet-5 on MNIST, half of its filters and units in each of three "
         "rounds: Adam 1.2e-3", 430_500, network="lenet5", dataset="mnist", steps=6000,
         fraction=0.5)
_filters("conv2_filters", "Conv-2 on CIFAR-10, 30% of its filters and units in each of three "
         "rounds: Adam 2e-4", 4_300_992, network="conv2", dataset="cifar10", steps=2000,
         fraction=0.3, learning_rate=2e-4)
