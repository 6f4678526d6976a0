import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import fractions

from lth_keras.controls.known import CONTROLS
from lth_keras.core import criteria
from lth_keras.core.pruning import SCOPES
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import config, presets, validation
from lth_keras.experiments.config.config import Config, DATA_ORDERS, KEPT, OPTIMIZERS
from lth_keras.experiments.config.strategies import RETRAININGS, STRATEGIES

CONFIG = Config(preset="p", network="n", dataset="d", steps=100)
BRANCHES = ("ticket", *CONTROLS)
EXTENT = {"rounds", "replicates", "first_replicate", "branches", "keep_trained", "margin", "until",
          "source", "data", "network_file"}
OTHER = {"data_checksum": "0a1b2c3d4e5f6071", "network_checksum": "0a1b2c3d4e5f6071",
         "preset": "q", "network": "m", "dataset": "e", "steps": 200, "seed": 1,
         "optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "batch_size": 61,
         "validation_every": 99, "validation_size": 5001, "fraction": {"default": 0.2},
         "scope": "global", "criterion": "random", "data_order": "same",
         "augmentation": "flip_crop", "dtype_policy": "mixed_bfloat16", "strategy": "one_shot",
         "retraining": "learning_rate_rewinding", "rewind_step": 50, "weight_decay": 1e-4,
         "warmup_steps": 10, "learning_rate_drops": (20, 80), "measured_steps": (50, 100),
         "dropout": 0.5, "scale": 0.1, "initializer": "normal_0.1", "structure": "block_1x4",
         "engine": "keras", "keras_backend": "torch", "multiple_of": 8,
         "distribution": "erk", "scoring_per_class": 3, "against": "theta_0",
         "mask_update_every": 50, "source_fingerprint": "0123456789",
         "patience": 100}
NEEDS = {"scoring_per_class": {"strategy": "snip"},
         "distribution": {"strategy": "random_at_init"}, "source_fingerprint": {"source": "runs/a"},
         "multiple_of": {"structure": "filters"},
         "keras_backend": {"engine": "keras", "keras_backend": "jax"},
         "momentum": {"optimizer": "sgd"}, "weight_decay": {"optimizer": "sgd"},
         "rewind_step": {"validation_every": 50}, "measured_steps": {"validation_every": 50}}


@st.composite
def configs(draw):
    steps, optimizer = draw(st.integers(2, 10**6)), draw(st.sampled_from(OPTIMIZERS))
    every = draw(st.integers(1, steps))
    moments = st.lists(st.integers(1, steps), max_size=3, unique=True).map(sorted).map(tuple)
    retraining = draw(st.sampled_from([*RETRAININGS]))
    least = 1 if retraining == "fine_tuning" else 0
    every = every if every * least < steps else 1
    rewound = every * draw(st.integers(least, max(least, (steps - 1) // every)))
    strategy = "iterative" if retraining != "weight_rewinding" \
        else draw(st.sampled_from([name for name in STRATEGIES if name != "transfer"]))
    names = st.from_regex("[0-9A-Za-z_.-]{1,5}", fullmatch=True)
    # What a control needs, the strategy must have.
    lacks = "trained" if STRATEGIES[strategy].at_init else "inverted"
    branches = draw(st.lists(st.sampled_from([
        name for name in BRANCHES if name == "ticket" or (lacks not in CONTROLS[name].needs
        and (retraining == "weight_rewinding" or not CONTROLS[name].initial))]),
        min_size=1).map(tuple))
    sparse = any(CONTROLS[name].method for name in branches if name in CONTROLS)
    takes = strategy != "iterative" or "reinit_trained_signs" in branches
    return Config(
        preset=draw(names), network=draw(names), dataset=draw(names), steps=steps,
        rounds=draw(st.integers(0, 99)), replicates=draw(st.integers(1, 99)),
        branches=branches,
        seed=draw(st.integers()), optimizer=optimizer,
        learning_rate=draw(st.floats(0, exclude_min=True, allow_infinity=False)),
        momentum=draw(st.floats(0, 1, exclude_max=True)) if optimizer == "sgd" else 0.0,
        batch_size=draw(st.integers(1)), validation_every=every, strategy=strategy,
        retraining=retraining, rewind_step=rewound, learning_rate_drops=draw(moments),
        measured_steps=tuple(step for step in draw(moments) if step % every == 0),
        warmup_steps=draw(st.integers(0, steps - 1)), dropout=draw(st.floats(0, 0.99)),
        weight_decay=draw(st.floats(0, 1)) if optimizer == "sgd" else 0.0,
        scale=draw(st.floats(0, 1, exclude_min=True)),
        keep_trained="tickets" if takes else draw(st.sampled_from(KEPT)),
        validation_size=draw(st.integers(1)),
        fraction=draw(fractions | st.dictionaries(names, fractions, min_size=1, max_size=3)),
        scope=draw(st.sampled_from(SCOPES)), criterion="magnitude" if STRATEGIES[strategy].at_init
        else draw(st.sampled_from([name for name, criterion in criteria.CRITERIA.items()
                                   if not criterion.units_only])),
        data_order=draw(st.sampled_from(DATA_ORDERS)),
        augmentation=draw(st.sampled_from(config.AUGMENTATIONS)),
        mask_update_every=draw(st.integers(1, steps * 3 // 4)),
        dtype_policy=draw(st.sampled_from(config.DTYPE_POLICIES[:2 if sparse else 3])))


@pytest.mark.parametrize(("preset", "expected"), [
    ("digits", "18a26a8fad"), ("lenet_300_100", "591c50e5e6"), ("lenet_300_100_sgd", "8889eabce1"),
    ("lenet_300_100_momentum", "6b443ce471"), ("conv2", "3c89290d7d"),
    ("lenet_300_100_at_init", "c15ec9ea44"), ("lenet_300_100_sparse", "1f1382a820"),
    ("lenet_300_100_supermask", "57b2cba3fd"),
    ("conv2_dropout", "94ce16018d"), ("conv4", "a0570cb5b1"), ("conv4_dropout", "3ec81dce02"),
    ("conv6", "f5570c6563"), ("conv6_dropout", "6fdff07f80"), ("resnet18", "74a7322f60"),
    ("resnet18_low", "fad5bcf36d"), ("resnet18_warmup", "c682f3a8ad"), ("vgg19", "8da7321df0"),
    ("vgg19_layerwise", "e62c09d75e"), ("vgg19_low", "f63bda3af7"),
    ("vgg19_low_layerwise", "2495350c7a"), ("vgg19_warmup", "8dda433935"),
    ("vgg19_warmup_layerwise", "f14fe43718"), ("vgg16_liu", "fe9424f3bd"),
    ("vgg16_liu_low", "4544916194"), ("resnet56_liu", "243a3f3a59"),
    ("resnet56_liu_low", "41a9e02b6a"), ("vgg16_l1_a", "ef5b9b1fe5"),
    ("vgg16_l1_a_low", "1908168f3a"), ("resnet56_l1_a", "63a695694c"),
    ("resnet56_l1_a_low", "a0e1168a61"), ("resnet56_l1_b", "183fecd72a"),
    ("resnet56_l1_b_low", "018b58cbac"), ("resnet110_l1_a", "1ae7fff6b9"),
    ("resnet110_l1_a_low", "9f94fdb99d"), ("resnet110_l1_b", "bcb9200418"),
    ("resnet110_l1_b_low", "bd9307f34b"), ("lenet5_filters", "3a9050d4b4"),
    ("conv2_filters", "c495ce2aa1")])
def test_presets_have_the_fingerprints_of_earlier_versions(preset, expected):
    assert presets.get(preset).fingerprint == expected


def test_every_preset_has_its_fingerprint_pinned():
    marks = test_presets_have_the_fingerprints_of_earlier_versions.pytestmark
    assert {name for name, _ in marks[0].args[1]} == set(presets.PRESETS)


def test_the_defaults_are_those_of_earlier_versions():
    assert CONFIG.to_dict() == {
        "preset": "p", "network": "n", "dataset": "d", "steps": 100, "rounds": 16,
        "replicates": 1, "first_replicate": 0, "branches": ["ticket", "reinit"], "seed": 0,
        "optimizer": "adam", "against": "theta_k", "mask_update_every": 100, "patience": 0,
        "learning_rate": 0.0012, "momentum": 0.0, "batch_size": 60, "validation_every": 100,
        "validation_size": 5000, "fraction": 0.2, "scope": "layer", "criterion": "magnitude",
        "data_order": "fresh", "augmentation": "none", "dtype_policy": "float32",
        "keep_trained": "tickets", "strategy": "iterative", "retraining": "weight_rewinding",
        "rewind_step": 0, "weight_decay": 0.0, "warmup_steps": 0, "learning_rate_drops": [],
        "measured_steps": [], "dropout": 0.0, "scale": 1.0, "initializer": "own",
        "engine": "tf_keras", "keras_backend": "", "until": "", "multiple_of": 1,
        "distribution": "scope", "scoring_per_class": 10, "source": "", "source_fingerprint": "",
        "data": "", "data_checksum": "", "network_file": "", "network_checksum": "",
            "structure": "none", "margin": "accuracy:0.002,steps:0.19,loss:0.01"}


def test_defaults_are_left_out_of_the_identity():
    assert CONFIG.identity == {"preset": "p", "network": "n", "dataset": "d", "steps": 100}
    assert CONFIG.replace(seed=1).replace(seed=0).identity == CONFIG.identity


def test_the_extent_does_not_change_the_fingerprint():
    more = CONFIG.replace(rounds=3, replicates=7, first_replicate=2,
                          branches=("ticket",), keep_trained="none", margin="steps:0.1")
    assert more != CONFIG
    assert more.identity == CONFIG.identity
    assert more.fingerprint == CONFIG.fingerprint


def test_every_field_is_of_the_extent_or_of_the_identity():
    assert {field.name for field in dataclasses.fields(Config)} == EXTENT | set(OTHER)


@pytest.mark.parametrize("name", OTHER)
def test_every_other_setting_changes_the_fingerprint(name):
    start = CONFIG.replace(**NEEDS.get(name, {}))
    changed = dataclasses.replace(start, **{name: OTHER[name]})
    assert changed.identity[name] == json.loads(json.dumps(OTHER[name]))
    assert changed.fingerprint != start.fingerprint


@pytest.mark.parametrize(("one", "other"), [
    ({"learning_rate": 1}, {"learning_rate": 1.0}), ({"fraction": 0}, {"fraction": 0.0}),
    ({"fraction": {"a": 0, "b": 0.1}}, {"fraction": {"b": 0.1, "a": 0.0}}),
    ({"branches": ["reinit"]}, {"branches": ("ticket", "reinit")})])
def test_equal_configurations_have_equal_fingerprints(one, other):
    assert CONFIG.replace(**one) == CONFIG.replace(**other)
    assert CONFIG.replace(**one).fingerprint == CONFIG.replace(**other).fingerprint


@given(configs())
def test_a_configuration_reads_back_from_json(config):
    again = Config.from_json(json.dumps(config.to_dict()))
    assert again == config
    assert again.fingerprint == config.fingerprint


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "3", "{}", '{"preset": "p"}', '{"branches": "ticket"}',
    '{"branches": 3}', "[" * 100_000,
    json.dumps({**CONFIG.to_dict(), "branches": None}),
    json.dumps({**CONFIG.to_dict(), "unknown": 1}),
    json.dumps({**CONFIG.to_dict(), "steps": 1.5}),
    json.dumps({**CONFIG.to_dict(), "criterion": []}),
    json.dumps({**CONFIG.to_dict(), "learning_rate": None}),
    json.dumps({**CONFIG.to_dict(), "learning_rate": float("nan")})], ids=range(16))
def test_text_that_is_no_configuration_is_an_error(text):
    with pytest.raises(LotteryError, match="Received: ") as caught:
        Config.from_json(text)
    assert len(str(caught.value)) < 400


BAD = {
    "steps": [0, -1, 1.0, "100", None, True, [], 99.5],
    "rounds": [-1, 0.5, None, False, 10_000],
    "replicates": [0, -1, None, 1.0, 1_000_001],
    "first_replicate": [-1, None, 1.0, 1_000_000],
    "batch_size": [0, None, 60.0],
    "validation_every": [0, 101, None, 1.0],
    "validation_size": [0, None, 1.0],
    "seed": [0.0, "0", None, True],
    "optimizer": ["Adam", "", None, [], 0],
    "scope": ["local", None, []],
    "data_order": ["random", None, []],
    "augmentation": ["crop", "", None, [], True],
    "dtype_policy": ["float16", "bfloat16", "", None, []],
    "criterion": ["size", "", None, 3, [], len],
    "branches": [(), [], "ticket", "", ("tickets",), ("ticket", None), [[]], None, 3,
                 ("reinit:0",), ("reinit:x",), ("reinit@",), ("reinit@5-3",), ("reinit@99999",),
                 ("reinit", "reinit:2"), ("reinit:99999",), ("continued",), ("reinit@0",),
                 ("reinit:3@5/17",), ("ticket:2@17",), ("random_mask@99",)],
    "keep_trained": ["all", None, []],
    "strategy": ["oneshot", "", None, []],
    "retraining": ["rewinding", None, [], "fine_tuning"],  # Which needs a rewind_step.
    "rewind_step": [-1, 50, 100, 200, 0.0, None, True],
    "warmup_steps": [-1, 100, 0.5, None],
    "learning_rate_drops": [(0,), (101,), (20, 20), (30, 20), (1.0,), None, "20", (True,)],
    "measured_steps": [(50,), (101,), (0,), None],
    "dropout": [-0.1, 1, 1.0, float("nan"), None, "half", True],
    "initializer": ["", "normal", "normal_", "normal_0", "normal_-1", "normal_1e9", "zeros", None,
                    3, []],
    "scale": [0, -1, 1.5, float("nan"), None],
    "weight_decay": [-1e-4, float("inf"), float("nan"), None, "much"],
    "fraction": [1, -0.1, float("nan"), None, True, [], {}, {"default": 1.0}, {"default": None}],
    "learning_rate": [0, -1.0, float("nan"), float("inf"), None, "fast", [], True],
    "momentum": [-0.1, 1, 1.5, float("nan"), None, "much", []],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items()
                                             for value in values])
def test_a_value_outside_what_its_field_allows_is_an_error(name, value):
    start = CONFIG.replace(**NEEDS[name]) if "decay" in name or name == "momentum" else CONFIG
    with pytest.raises(LotteryError, match="Received: ") as caught:
        dataclasses.replace(start, **{name: value})
    assert name in str(caught.value)


def test_momentum_is_for_sgd_alone():
    assert CONFIG.replace(optimizer="sgd", momentum=0.9).momentum == 0.9
    with pytest.raises(LotteryError, match=r"Received: 0\.9 with adam"):
        CONFIG.replace(momentum=0.9)


@pytest.mark.parametrize(("name", "text", "expected"), [
    ("steps", "200", 200), ("seed", "-7", -7), ("rounds", " 3 ", 3),
    ("learning_rate", "1e-2", 0.01), ("learning_rate", "3", 3.0),
    ("network", "lenet_300_100", "lenet_300_100"),
    ("scope", "global", "global"), ("criterion", "random", "random"),
    ("fraction", "0.5", 0.5), ("fraction", "default:0.2,output:0.1", {"default": 0.2,
                                                                      "output": 0.1}),
    ("fraction", " a : 0.2 , b:0.3", {"a": 0.2, "b": 0.3}),
    ("fraction", "scope:a:0.2", {"scope:a": 0.2}),
    ("fraction", "body/stage1_*:0.2,default:0", {"body/stage1_*": 0.2, "default": 0.0}),
    ("branches", "ticket", ("ticket",)), ("branches", " ticket , reinit", ("ticket", "reinit")),
    ("branches", "reinit,", ("ticket", "reinit"))])
def test_text_is_read_as_the_type_of_its_field(name, text, expected):
    value = getattr(CONFIG.replace(**{name: text}), name)
    assert value == expected and type(value) is type(expected)


def test_text_is_read_as_a_fraction_whatever_the_fraction_was():
    mapped = CONFIG.replace(fraction={"default": 0.3})
    assert mapped.replace(fraction="0.4").fraction == 0.4
    assert mapped.replace(fraction="a:0.4").fraction == {"a": 0.4}


def test_a_fraction_by_stage_is_of_filters_alone():
    by_stage = CONFIG.replace(structure="filters", fraction="0.6/0.3/0.1")
    assert by_stage.fraction == (0.6, 0.3, 0.1) == CONFIG.replace(
        structure="filters", fraction=[0.6, 0.3, 0.1]).fraction
    assert Config.from_plain(by_stage.to_dict()) == by_stage
    assert by_stage.identity["fraction"] == [0.6, 0.3, 0.1]
    with pytest.raises(LotteryError, match=r'needs structure="filters". Received: \[0.6, 0.3\]'):
        CONFIG.replace(fraction="0.6/0.3")


@pytest.mark.parametrize(("name", "text"), [
    ("steps", "many"), ("steps", "1e3"), ("steps", ""), ("steps", "100.0"), ("seed", "9" * 5000),
    ("learning_rate", "fast"), ("learning_rate", "nan"), ("learning_rate", ""),
    ("fraction", "half"), ("fraction", ""), ("fraction", "default:"), ("fraction", "default:0.2,"),
    ("fraction", "default:1"), ("fraction", "default:0.2,0.1"), ("fraction", "0.5/"),
    ("fraction", "0.5/1"), ("branches", ""),
    ("branches", "ticket,random"), ("scope", "Layer"), ("criterion", "size"),
    ("augmentation", "Flip_crop"), ("dtype_policy", "half")], ids=str)
def test_text_that_cannot_be_read_is_an_error(name, text):
    with pytest.raises(LotteryError, match="Received: "):
        CONFIG.replace(**{name: text})


@pytest.mark.parametrize("name", ["step", "preset", "fingerprint", ""])
def test_an_unknown_setting_lists_the_known_ones(name):
    with pytest.raises(LotteryError, match=f"of against, augmentation, .*Received: '{name}'"):
        CONFIG.replace(**{name: "1"})


def test_changes_are_checked_as_a_whole():
    assert CONFIG.replace(steps=10, validation_every=10).steps == 10
    with pytest.raises(LotteryError, match="Received: validation_every=100, steps=10"):
        CONFIG.replace(steps=10)


@pytest.mark.parametrize("branches", [("reinit",), ["reinit", "ticket"], ("reinit", "reinit")])
def test_branches_begin_with_the_ticket_and_are_each_there_once(branches):
    assert CONFIG.replace(branches=branches).branches == ("ticket", "reinit")


def test_the_ticket_and_its_reinitialisation_are_trained_by_default():
    assert CONFIG.branches == ("ticket", "reinit")


@pytest.mark.parametrize("preset", [*presets.PRESETS])
@pytest.mark.parametrize("scale", [1, 0.5, 0.1, 0.01, 0.001])
def test_a_preset_is_scaled_as_a_whole(preset, scale):
    whole = presets.get(preset)
    scaled = whole.scaled(scale)
    assert scaled.scale == scale and scaled.steps == max(1, round(whole.steps * scale))
    for name in ("learning_rate_drops", "measured_steps"):
        one, other = getattr(whole, name), getattr(scaled, name)
        assert all(abs(step * scale - less) <= scaled.validation_every
                   for step, less in zip(one, other, strict=True))
    same = {"scale", "steps", "validation_every", "rewind_step", "warmup_steps",
            "learning_rate_drops", "measured_steps"}
    if "rigl@last" in whole.branches:  # Elsewhere it changes nothing, and is no setting changed.
        same |= {"mask_update_every"}
    assert {name: value for name, value in whole.to_dict().items() if name not in same} == \
        {name: value for name, value in scaled.to_dict().items() if name not in same}
    assert (scale == 1) == (whole == scaled)


@pytest.mark.parametrize("settings", [
    {"strategy": "continued", "retraining": "learning_rate_rewinding"},
    {"strategy": "one_shot", "keep_trained": "none"}, {"strategy": "continued",
                                                       "keep_trained": "none"},
    {"branches": ("reinit_trained_signs",), "keep_trained": "none"}])
def test_a_strategy_has_what_it_needs(settings):
    with pytest.raises(LotteryError, match="Received: "):
        CONFIG.replace(**settings)


@pytest.mark.parametrize("retraining", ["learning_rate_rewinding", "fine_tuning"])
@pytest.mark.parametrize("branch", ["reinit_signed", "constant", "constant_signed",
                                    "shuffled_mask", "magnitude_at_init"])
def test_controls_that_take_weights_for_initial_ones_need_them(branch, retraining):
    assert CONFIG.replace(branches=(branch,)).retraining == "weight_rewinding"
    settings = {"retraining": retraining, "rewind_step": 20, "validation_every": 20}
    with pytest.raises(LotteryError, match=f"The branch {branch} takes the ticket's weights for "
                                           f".*Received: retraining={retraining}"):
        CONFIG.replace(branches=(branch,), **settings)
    assert CONFIG.replace(branches=("reinit", "reshuffle"), **settings)


@pytest.mark.parametrize(("strategy", "chain"), [
    ("iterative", ["ticket"] * 3), ("one_shot", ["ticket"] * 3),
    ("continued", ["ticket", "continued", "continued"])])
def test_the_chain_is_what_tickets_are_made_from(strategy, chain):
    assert [CONFIG.replace(strategy=strategy).chain(level) for level in range(3)] == chain


def test_a_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIG.steps = 5


def test_a_configuration_does_not_keep_the_callers_mapping():
    mine = {"default": 0.2}
    config = CONFIG.replace(fraction=mine)
    mine["default"] = 0.5
    config.to_dict()["fraction"]["default"] = 0.6
    assert config.fraction == {"default": 0.2}


@pytest.mark.parametrize("field", dataclasses.fields(Config), ids=lambda field: field.name)
def test_every_field_says_what_it_is(field):
    assert field.metadata["help"].strip()


def test_the_backend_is_as_asked_or_that_of_the_environment_or_one_that_is_installed(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(validation.importlib.util, "find_spec",
                        lambda name: name in ("tensorflow", "torch") or None)
    assert CONFIG.replace(engine="keras").keras_backend == "tensorflow"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    found = CONFIG.replace(engine="keras")
    assert found.keras_backend == "torch"
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # What is stored does not change.
    assert Config.from_json(json.dumps(found.to_dict())) == found
    assert CONFIG.replace(engine="keras", keras_backend="tensorflow").keras_backend == "tensorflow"
    assert CONFIG.keras_backend == ""


@pytest.mark.parametrize(("settings", "message"), [
    ({"keras_backend": "jax"}, "Received: keras_backend='jax' with engine=tf_keras"),
    ({"engine": "keras", "keras_backend": "numpy"}, "keras_backend must be one of jax, tensorflow"),
    ({"engine": "keras2"}, "engine must be one of tf_keras, keras")])
def test_engines_and_backends_that_are_none_are_refused(settings, message):
    with pytest.raises(LotteryError, match=message):
        CONFIG.replace(**settings)
