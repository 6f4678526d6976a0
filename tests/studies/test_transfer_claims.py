"""The rules that decide the claims on tickets of another task, on fabricated results."""

import pandas as pd
import transfer_claims as claims
from judging import NOT_REPRODUCED, REPRODUCED


def run(**accuracies):
    return pd.DataFrame([
        {"replicate": replicate, "level": 5, "branch": branch, "branch_index": 0, "density": 0.03,
         "early_stop_step": 100, "test_accuracy_final": accuracy + 1e-4 * replicate * (1 + place)}
        for replicate in range(5) for place, (branch, accuracy) in enumerate(accuracies.items())])


def test_each_pair_is_a_part_and_is_named():
    right = run(ticket=0.9, random_mask=0.8, random_mask_global=0.7)
    wrong = run(ticket=0.6, random_mask=0.8, random_mask_global=0.7)
    parts = list(claims.tr2(*[right] * 5, wrong))
    assert [part.verdict for part in parts] == [REPRODUCED] * 5 + [NOT_REPRODUCED]
    assert parts[0].said.startswith("from digits to mnist: ticket less random mask global")
    assert {part.verdict for part in claims.tr4(*[wrong] * 6)} == {REPRODUCED}
