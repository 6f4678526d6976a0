"""The rules that decide the claims on scores at initialisation, on fabricated results."""

import at_init_claims
import pandas as pd
from judging import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED

LEVELS = at_init_claims.LEVELS


def run(**accuracies):
    """Five replicates of each branch at each level; all branches share a replicate's luck."""
    return pd.DataFrame([
        {"replicate": replicate, "level": level, "branch": branch, "branch_index": 0,
         "density": 0.4**level, "early_stop_step": 100,
         "test_accuracy_final": accuracy + 0.001 * replicate}
        for replicate in range(5) for level in LEVELS for branch, accuracy in accuracies.items()])


def verdicts(parts):
    return {part.verdict for part in parts}


SAME = run(ticket=0.96, shuffled_mask=0.96, reinit=0.959, inverted=0.958)
WORSE = run(ticket=0.96, shuffled_mask=0.94, reinit=0.95, inverted=0.95)


def test_f1_holds_where_shuffling_and_drawing_anew_cost_less_than_the_margin():
    assert verdicts(at_init_claims.f1(SAME, SAME, SAME, SAME)) == {REPRODUCED}
    parts = list(at_init_claims.f1(SAME, SAME, WORSE, SAME))
    assert [part.said.split(",")[0] for part in parts
            if part.verdict == NOT_REPRODUCED] == ["synflow"] * 8
    assert len(parts) == 4 * 2 * 4


def test_f2_is_the_opposite_and_from_80_percent_on():
    assert verdicts(at_init_claims.f2(WORSE)) == {REPRODUCED}
    assert len(list(at_init_claims.f2(WORSE))) == 6
    better = run(ticket=0.96, shuffled_mask=0.97, reinit=0.95)
    assert verdicts(at_init_claims.f2(better)) == {REPRODUCED, NOT_REPRODUCED}


def test_f3_is_of_the_inverted_scores():
    assert verdicts(at_init_claims.f3(SAME)) == {REPRODUCED}
    assert verdicts(at_init_claims.f3(WORSE)) == {NOT_REPRODUCED}


def test_f4_orders_random_masks_early_methods_and_magnitudes_after_training():
    early = [run(ticket=0.96)] * 4
    right = verdicts(at_init_claims.f4(*early, run(ticket=0.95), run(ticket=0.97)))
    wrong = verdicts(at_init_claims.f4(*early, run(ticket=0.97), run(ticket=0.97)))
    assert right == {REPRODUCED} and wrong == {REPRODUCED, NOT_REPRODUCED}


def test_what_varies_more_than_it_differs_stays_open():
    noisy = run(ticket=0.96, inverted=0.96)
    inverted = noisy.branch == "inverted"
    noisy.loc[inverted, "test_accuracy_final"] += 0.1 * (-1) ** noisy.replicate[inverted]
    assert verdicts(at_init_claims.f3(noisy)) == {INCONCLUSIVE}
