import itertools

import judging
import numpy as np
import pandas as pd
import pytest
import supermask_claims as claims
import supermasks  # studies/supermasks.py

from lth_keras.experiments.training.datasets import Data


def rows(accuracies, network="LeNet-5", initializer=claims.SCALED):
    return pd.DataFrame([
        {"network": network, "method": "edge_popup", "kept": kept, "initializer": initializer,
         "seed": seed, "accuracy": accuracy + seed / 10}
        for (kept, accuracy), seed in itertools.product(accuracies.items(), range(3))])


GOOD = {0: 10, 0.1: 90, 0.5: 96, 0.9: 90, 1: 12}


@pytest.mark.parametrize(("changed", "wrong"), [
    ({}, []), ({0.1: 97}, [0]), ({0: 25}, [1]), ({1: 25}, [2])])
def test_the_best_share_and_the_guesses_at_the_ends_decide(changed, wrong):
    parts = list(claims.e5(rows({**GOOD, **changed})))
    assert [index for index, part in enumerate(parts)
            if part.verdict == judging.NOT_REPRODUCED] == wrong
    assert len(parts) == 3


@pytest.mark.parametrize("half", [94.9, 96])
def test_every_seed_of_a_half_must_be_good(half):
    found = pd.concat([rows(GOOD), rows({**GOOD, 0.5: half}, "LeNet-300-100"),
                       rows({0.5: 20}, initializer="HeNormal")])
    assert [part.verdict for part in claims.e6(found)] == [
        judging.REPRODUCED, judging.REPRODUCED if half >= 95 else judging.NOT_REPRODUCED]


def test_every_case_is_trained_once_and_kept_as_it_comes(tmp_path, monkeypatch):
    x, y = np.zeros((256, 28, 28), np.uint8), np.arange(256) % 10
    monkeypatch.setattr(supermasks, "KEPT", tmp_path / "kept.csv")
    monkeypatch.setattr(supermasks.datasets, "load", lambda *given: Data(x, y, x, y, 10))
    chosen = [case._replace(epochs=1) for case in supermasks.cases()
              if case.kept == 0.5 and case.seed == 0]
    assert {case.network for case in chosen} == {supermasks.LENET, supermasks.CONVOLUTIONS}
    assert {case.method for case in chosen} == {"edge_popup", "bernoulli"}
    monkeypatch.setattr(supermasks, "cases", lambda: chosen)
    supermasks.run()
    first = pd.read_csv(supermasks.KEPT)
    assert len(first) == len(chosen) and first.accuracy.between(5, 15).all()
    monkeypatch.setattr(supermasks, "accuracy", lambda *given: pytest.fail("trained again"))
    supermasks.run()
    line, *_others = supermasks.draw(first).axes[0].lines
    assert line.get_label() == supermasks.LENET and len(line.get_xdata()) == 1
