"""How filters are chosen and what a search says of them, on both engines."""

import filters
import keras as keras3
import pytest
import tf_keras

import lth_keras as lth

LIBRARIES = {"tf_keras": tf_keras, "keras3": keras3}
both = pytest.mark.parametrize("library", LIBRARIES)


def search(library, model, prunes=(), **options):
    prunes = {"structure": "filters", **dict(prunes)}
    if library == "tf_keras":
        model, prunes = lth.prune_low_magnitude(model, **prunes), {}
    model.compile("sgd", "mse")
    return lth.Search(model, criterion="l1", **options, **prunes)


def kept(found):
    """Layer name -> how many of its filters are kept."""
    found.prune_and_rewind()
    return {group.layers[0]: int(group.kept(found.masks).sum())
            for group in next(iter(found.network.structures.values())).groups}


@pytest.mark.filterwarnings("ignore:Nothing has trained the model")
@both
def test_fractions_by_pattern_and_by_stage(library):
    keras = LIBRARIES[library]
    # A residual stream of 8 filters, 6 within, 12 units.
    model = filters.SMALL["residual"](keras)
    assert kept(search(library, model, fraction={"*inner": 0.5, "Conv2D": 0.25, "fc": 0.0})) == {
        "stem": 6, "inner": 3, "fc": 12}
    model = filters.SMALL["residual"](keras)
    by_stage = search(library, model, fraction=[0.5, 0.0, 0.25])
    assert kept(by_stage) == {"stem": 4, "inner": 6, "fc": 9}
    assert by_stage.tickets[-1].provenance["settings"]["fraction"] == [0.5, 0.0, 0.25]
    model = filters.SMALL["residual"](keras)
    with pytest.raises(lth.LotteryError, match=r"for 3 stages \(8 filters: stem to outer; 6 filt"):
        search(library, model, fraction=[0.5, 0.5])
