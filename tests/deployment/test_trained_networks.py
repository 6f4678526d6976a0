"""What is exported: a workdir's trained weights, or a ticket that is trained first."""

import dataclasses

import numpy as np
import pytest
import small
import workdirs
from small import blobs, CONFIG

from lth_keras.deployment import trained_networks
from lth_keras.deployment.run_export import RunExporter, Settings
from lth_keras.errors import LotteryError, TicketError, WorkdirError
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results import runs
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.results.store import Store
from lth_keras.files import checksums

FABRICATED = CONFIG.replace(rounds=3, replicates=2, branches=("ticket", "reinit"))


def fill(root, accuracies, config=FABRICATED, kept=True):
    """A run whose tickets end at these validation accuracies: level -> one a replicate."""
    run = Store(root, config)
    run.begin()
    for level, of_replicates in accuracies.items():
        for replicate, accuracy in enumerate(of_replicates):
            for branch in ("ticket", *(["reinit"] if level else [])):
                training = Training(replicate, level, branch)
                path = run.ticket(replicate, level)
                start = checksums.mark(path.read_bytes()) if path.exists() \
                    else workdirs.ticket(level)
                of_ticket = branch == "ticket"
                run.finish(training, workdirs.RESULT, workdirs.CURVE.assign(
                    val_accuracy=[1.0, accuracy if of_ticket else 1.0]), start,
                    following=workdirs.ticket(level + 1) if of_ticket else None,
                    trained=workdirs.ticket(level, 3.0) if of_ticket and kept else None)
    return root


@pytest.mark.parametrize(("accuracies", "best"), [
    ({0: (0.9, 0.9), 1: (0.95, 0.95), 2: (0.9, 0.9), 3: (0.89, 0.9)}, 2),
    ({0: (0.9, 0.9), 1: (0.8, 0.8), 2: (0.8, 1.0), 3: (0.8, 0.8)}, 2),
    ({0: (0.9, 0.9), 1: (0.8, 0.8), 2: (0.85, 0.9), 3: (0.8, 0.8)}, 0),
    ({0: (0.9, 0.9), 1: (0.9, 0.9)}, 1), ({0: (0.9,)}, 0)])
def test_the_best_level_is_the_sparsest_as_accurate_as_dense(tmp_path, accuracies, best):
    assert trained_networks.best_level(fill(tmp_path, accuracies), 0) == best


@pytest.mark.parametrize(("accuracies", "said"), [
    ({0: (0.9, 0.9)}, "2 of 14 networks are trained, up to level 0 of 3."),
    ({0: (0.9, 0.9), 1: (0.9,)}, "4 of 14 networks are trained, up to level 1 of 3."),
    (dict.fromkeys(range(4), (0.9, 0.9)), "")])
def test_an_unfinished_run_is_said_to_be_one(tmp_path, accuracies, said):
    to_come = trained_networks.to_come(fill(tmp_path, accuracies))
    assert said in to_come and bool(to_come) is bool(said)
    assert not said or to_come.startswith(f"{tmp_path} is unfinished: ")


def test_a_damaged_record_is_left_to_the_export_of_its_own_network(tmp_path):
    fill(tmp_path, {0: (0.9, 0.9), 1: (0.9, 0.9)})
    (tmp_path / "replicate_1/level_01/reinit_0/result.json").write_text("{}")
    assert trained_networks.to_come(tmp_path) == ""


def test_a_level_whose_weights_were_not_kept_is_neither_best_nor_exported(tmp_path):
    fill(tmp_path, {0: (0.9,)})
    fill(tmp_path, {1: (0.9,)}, kept=False)
    assert trained_networks.levels(tmp_path, 0) == [0] and trained_networks.best_level(tmp_path,
                                                                                       0) == 0
    with pytest.raises(WorkdirError, match=r"trained weights were kept, one of 0\. Received: 1"):
        trained_networks.from_workdir(tmp_path, 1, 0)
    with pytest.raises(WorkdirError, match="none of replicate 1"):
        trained_networks.levels(tmp_path, 1)


def test_without_the_dense_network_there_is_no_best(tmp_path):
    with pytest.raises(WorkdirError, match="name a level"):
        trained_networks.best_level(fill(tmp_path, {1: (0.9,)}), 0)


def test_a_workdirs_network_is_its_trained_one_with_pruned_weights_at_zero(tmp_path):
    source = trained_networks.from_workdir(fill(tmp_path, {0: (0.9,), 1: (0.9,)}), 1, 0)
    assert source.weights["w"].tolist() == [3.0, 0.0] and source.density == 0.5
    assert source.training == Training(0, 1) and not source.trained_now
    assert source.about["level"] == 1 and source.about["fingerprint"] == FABRICATED.fingerprint


def test_a_network_of_a_run_has_the_verdict_of_the_run_and_of_its_level(tmp_path):
    root = fill(tmp_path, {0: (0.9,), 1: (0.9,)})
    verdict = runs.read(root).verdict
    of_level, dense = (trained_networks.from_workdir(root, level, 0) for level in (1, 0))
    assert of_level.about["verdict"] == {"run": verdict.sentence, "level": str(verdict.levels[0])}
    assert dense.about["verdict"] == {"run": verdict.sentence, "level": "the dense network"}
    record = root / "replicate_0" / "level_00" / "ticket_0" / "curve.csv"
    record.write_text("damaged")  # Another training's: no reason to refuse this one.
    assert trained_networks.from_workdir(root, 1, 0).verdict in (None, of_level.verdict)


@pytest.fixture(scope="module")
def made(tiny_network):
    lab = small.lab(CONFIG)
    ticket = lab.train(Training(0, 0), StartingPoint()).following
    return ticket, lab.train(Training(0, 1), StartingPoint(ticket)).trained


@pytest.mark.thorough
def test_a_ticket_is_trained_first_as_its_run_would(made, tmp_path):
    ticket, trained = made
    ticket.save(tmp_path / "a.ticket")
    said = []
    source = trained_networks.from_file(tmp_path / "a.ticket", lambda config: blobs(), said.append)
    assert source.trained_now and "weights before training" in said[0] and "12 steps" in said[0]
    for name, value in trained.weights.items():
        np.testing.assert_array_equal(source.weights[name], value)
    assert source.config.fingerprint == CONFIG.fingerprint
    model = source.network(blobs())
    assert np.count_nonzero(model.layers[0].kernel) == np.count_nonzero(ticket.masks["a/kernel"])


def test_a_file_of_trained_weights_needs_no_data(made, tmp_path):
    made[1].save(tmp_path / "trained.safetensors")
    source = trained_networks.from_file(tmp_path / "trained.safetensors", lambda config: 1 / 0)
    assert not source.trained_now and source.training == Training(0, 1)
    assert source.mark == trained_networks.from_file(tmp_path / "trained.safetensors", None).mark


@pytest.mark.parametrize("provenance", [
    {}, {"settings": {"preset": "x"}, "replicate": 0}, {"settings": 3, "replicate": 0},
    {"settings": CONFIG.identity, "replicate": "one"}, {"settings": CONFIG.identity}])
def test_a_ticket_that_does_not_say_what_made_it_is_refused(made, tmp_path, provenance):
    dataclasses.replace(made[0], provenance=provenance).save(tmp_path / "own.ticket")
    with pytest.raises(TicketError, match=r"call lth_keras\.export\(ticket, .*train=train\) in"):
        trained_networks.from_file(tmp_path / "own.ticket", lambda config: blobs())


def test_a_ticket_whose_training_diverges_is_no_network(made, tmp_path):
    settings = CONFIG.replace(learning_rate=1e30).identity
    changed = dataclasses.replace(made[0], provenance={**made[0].provenance, "settings": settings})
    changed.save(tmp_path / "a.ticket")
    with pytest.raises(LotteryError, match="training diverged"):
        trained_networks.from_file(tmp_path / "a.ticket", lambda config: blobs())


@pytest.mark.parametrize("name", ["state.safetensors", "start.safetensors"])
def test_the_workdir_of_a_search_in_fit_is_exported_from_python_and_that_is_said(tmp_path, name):
    (tmp_path / name).touch()
    for refused in (lambda: trained_networks.levels(tmp_path, 0),
                    lambda: trained_networks.best_level(tmp_path, 0),
                    lambda: trained_networks.from_workdir(tmp_path, 0, 0),
                    lambda: RunExporter(Settings()).survey(tmp_path, 0, ["float32"])):
        with pytest.raises(WorkdirError, match=r"call lth_keras\.export\(model, out, data="):
            refused()
