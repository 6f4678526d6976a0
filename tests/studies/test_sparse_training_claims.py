"""The rules that decide the claims on masks that are found in training, on fabricated results."""

import pandas as pd
import sparse_training_claims as claims
from judging import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED


def run(level, dense=0.98, **accuracies):
    """Five replicates of each branch at a level, and of the dense network."""
    kinds = [("ticket", 0, dense), *((branch, level, accuracy)
                                     for branch, accuracy in accuracies.items())]
    return pd.DataFrame([
        {"replicate": replicate, "level": at, "branch": branch, "branch_index": 0, "density": 0.5,
         "early_stop_step": 100, "test_accuracy_final": accuracy + 1e-4 * replicate * (1 + place)}
        for replicate in range(5) for place, (branch, at, accuracy) in enumerate(kinds)])


def verdicts(parts):
    return [part.verdict for part in parts]


ORDERED = {"random_mask": 0.95, "set": 0.96, "rigl": 0.97, "gradual": 0.97, "reinit": 0.95,
           "ticket": 0.975}


def test_e1_orders_rigl_set_and_static_masks_and_lets_gradual_be_as_good():
    assert verdicts(claims.e1(run(5, **ORDERED))) == [REPRODUCED] * 3
    wrong = run(5, **{**ORDERED, "set": 0.98, "gradual": 0.96})
    assert verdicts(claims.e1(wrong)) == [NOT_REPRODUCED, REPRODUCED, NOT_REPRODUCED]


def test_e2_is_of_the_ticket_against_each():
    assert verdicts(claims.e2(run(5, **ORDERED))) == [REPRODUCED] * 4
    assert NOT_REPRODUCED in verdicts(claims.e2(run(5, **{**ORDERED, "gradual": 0.985})))


def test_e3_is_an_accuracy_of_95_percent():
    assert verdicts(claims.e3(run(1, edge_popup=0.951))) == [REPRODUCED]
    assert verdicts(claims.e3(run(1, edge_popup=0.947))) == [NOT_REPRODUCED]


def test_e4_grows_with_width_to_the_trained_network():
    widths = [run(1, edge_popup=accuracy) for accuracy in (0.96, 0.97, 0.975)]
    assert verdicts(claims.e4(*widths)) == [REPRODUCED] * 3
    short = [run(1, edge_popup=accuracy) for accuracy in (0.96, 0.95, 0.965)]
    assert verdicts(claims.e4(*short)) == [NOT_REPRODUCED, REPRODUCED, NOT_REPRODUCED]


def test_e5_lets_binary_weights_lose_a_point():
    assert verdicts(claims.e5(run(1, edge_popup=0.96, biprop=0.955))) == [REPRODUCED]
    assert verdicts(claims.e5(run(1, edge_popup=0.96, biprop=0.94))) == [NOT_REPRODUCED]
    noisy = run(1, edge_popup=0.96, biprop=0.95)
    noisy["test_accuracy_final"] += 0.1 * (-1) ** noisy.replicate * (noisy.branch == "biprop")
    assert verdicts(claims.e5(noisy)) == [INCONCLUSIVE]
