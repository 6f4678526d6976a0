"""Which layer a name in `include`, `exclude` and `fraction` means, on both Kerases."""

import either
import pytest
from either import PACKAGES

import lth_keras as lth


def masks(package, model, fraction=0.5, **options):
    """The masks of level 1 by name, after a search with an exclude or a fraction."""
    if package == "tf_keras":
        model, options = lth.prune_low_magnitude(model, **options), {}
    model.compile("sgd", "mse")
    search = lth.Search(model, fraction=fraction, **options)
    search.prune_and_rewind()
    return search.masks


def pruned(package, model, **options):
    """Name -> shape, of the weights that a search prunes."""
    return {name: mask.shape for name, mask in masks(package, model, **options).items()
            if not mask.all()}


def three(package, *names):
    layers = either.keras_of(package).layers
    given = [{"name": name} for name in names] or [{}] * 3
    return either.keras_of(package).Sequential([
        layers.Input((8,)), layers.Dense(16, **given[0]), layers.Dense(12, **given[1]),
        layers.Dense(2, **given[2])])


def numbered(package):
    return three(package, "dense_1", "dense_2", "dense_3")


def nested(package):
    keras = either.keras_of(package)
    layers = keras.layers
    inner = keras.Sequential([layers.Input((8,)), layers.Dense(16, name="proj")], name="enc")
    return keras.Sequential([layers.Input((8,)), inner, layers.Dense(6, name="proj"),
                             layers.Dense(2, name="out")])


@PACKAGES
@pytest.mark.parametrize("options", [{"exclude": "dense_1"}, {"exclude": ["Conv2D", "dense_2"]},
                                     {"fraction": {"dense_1": 0.9, "default": 0.1}}])
def test_a_name_that_keras_gives_to_another_layer_is_refused_with_both(package, options):
    with pytest.raises(lth.LotteryError, match=r"mean one layer. Received: (exclude=|fraction: )"
                                               "'dense_[12]'.*Keras calls 'dense_[23]'.*'/dense"):
        masks(package, numbered(package), **options)


@PACKAGES
def test_after_a_slash_it_is_the_name_in_tickets(package):
    assert pruned(package, numbered(package), exclude="/dense_1") == {
        "dense/kernel": (8, 16), "dense_2/kernel": (12, 2)}
    assert pruned(package, numbered(package), fraction={"/dense": 0.5, "default": 0.0}) == {
        "dense/kernel": (8, 16)}


@PACKAGES
def test_in_a_model_made_after_another_layer_the_summarys_name_is_not_taken_for_the_tickets(
        package):
    either.keras_of(package).backend.clear_session()
    either.keras_of(package).layers.Dense(1)
    model = three(package)
    assert [layer.name for layer in model.layers] == ["dense_1", "dense_2", "dense_3"]
    with pytest.raises(lth.LotteryError, match="Received: exclude='dense_1'"):
        masks(package, model, exclude="dense_1")
    # What only Keras calls a layer means it.
    assert pruned(package, three(package), exclude="dense_5") == {
        "dense/kernel": (8, 16), "dense_2/kernel": (12, 2)}
    assert pruned(package, three(package), fraction={"dense_9": 0.5, "default": 0.0}) == {
        "dense_2/kernel": (12, 2)}


@PACKAGES
def test_a_layer_in_a_nested_model_has_a_path(package):
    assert list(pruned(package, nested(package), exclude="enc/proj")) == [
        "proj/kernel", "out/kernel"]
    assert list(pruned(package, nested(package), exclude="/proj")) == [
        "enc/proj/kernel", "out/kernel"]
    assert list(pruned(package, nested(package), exclude=["enc/proj", "proj"])) == ["out/kernel"]
    assert list(pruned(package, nested(package), fraction={"enc/*": 0.5, "default": 0.0})) == [
        "enc/proj/kernel"]
    kept = masks(package, nested(package), fraction={"enc/proj": 0.75, "proj": 0.25, "out": 0.0})
    assert {name: mask.mean() for name, mask in kept.items()} == {
        "enc/proj/kernel": 0.25, "proj/kernel": 0.75, "out/kernel": 1}


@PACKAGES
@pytest.mark.parametrize("options", [{"exclude": "proj"},
                                     {"fraction": {"proj": 0.9, "default": 0.1}}])
def test_a_name_of_several_layers_is_refused_with_their_paths(package, options):
    with pytest.raises(lth.LotteryError, match="the name of 2 layers.*'/enc/proj', '/proj'"):
        masks(package, nested(package), **options)


@PACKAGES
def test_a_name_of_no_layer_is_refused_with_all_paths(package):
    with pytest.raises(lth.LotteryError, match=r"Layers: enc \(Sequential\), enc/proj \(Dense\), "
                                               r"proj \(Dense\), out \(Dense\)"):
        masks(package, nested(package), exclude="prj")
    with pytest.raises(lth.LotteryError, match=r"Layers: \['enc/proj', 'out', 'proj'\]"):
        masks(package, nested(package), fraction={"prj": 0.5, "default": 0.1})


@PACKAGES
def test_a_layer_that_an_attribute_holds_goes_by_it(package):
    keras = either.keras_of(package)

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense_1, self.dense_2 = keras.layers.Dense(4), keras.layers.Dense(2)

        def call(self, inputs):
            return self.dense_2(self.dense_1(inputs))

    def built():
        keras.backend.clear_session()  # Keras calls them "dense" and "dense_1" now.
        model = Net()
        model(keras.ops.ones((1, 3)) if package == "keras" else keras.backend.ones((1, 3)))
        return model
    with pytest.raises(lth.LotteryError, match="'/dense_1' or '/dense_2'"):
        masks(package, built(), exclude="dense_1")
    assert list(pruned(package, built(), exclude="/dense_1")) == ["dense_2/kernel"]
    assert list(pruned(package, built(), exclude="dense_2")) == ["dense_1/kernel"]


def test_in_a_model_that_is_not_built_names_mean_the_same():
    keras = either.keras_of("tf_keras")
    keras.backend.clear_session()
    keras.layers.Dense(1)
    model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(2)])
    with pytest.raises(lth.LotteryError, match="Received: exclude='dense_1'"):
        lth.prune_low_magnitude(model, exclude="dense_1")
    wrapped = lth.prune_low_magnitude(model, exclude="/dense_1")
    assert [type(layer).__name__ for layer in wrapped.layers] == ["MaskedLayer", "Dense"]
