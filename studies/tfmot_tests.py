"""Runs tfmot's own pruning tests with this package's functions in place of tfmot's.

    git clone https://github.com/tensorflow/model-optimization
    python studies/tfmot_tests.py model-optimization      runs them, and writes docs/tfmot.md

The tests are those of the installed version of tfmot, by its tag in the clone; the wheel has none.
Each file runs in processes of its own, three times: with tfmot's functions; with `lth.
prune_low_magnitude` and `lth.strip_pruning` in their place, called as the tests call tfmot's; and
once more with schedules and tfmot's callback translated: see `Follows`.  Tests that call neither
function are left out.
"""

import argparse
import importlib
import importlib.metadata
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import types
import unittest
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

PAGE = HERE.parent / "docs" / "tfmot.md"
CORE = "tensorflow_model_optimization/python/core"
FILES = ("prune", "prune_integration", "pruning_callbacks", "pruning_policy", "prune_distributed")
STOCK, AS_CALLED, TRANSLATED = "stock", "as called", "translated"
UNEXPLAINED = "no reason is stated"
PASSES, NEVER = "", "calls neither"

# Regular expression of tests -> the decision by which they differ once schedules are translated.
DIFFERENT = {
    r"prune: testPrune(Custom|Keras)PrunableLayer$|AlreadyWrappedLayer":
        "a wrapper has no schedule; the search decides when to prune",
    r"ValidLayers\w*Successful|testPruneKerasNonPrunableLayer|prune: testPruneFunctionalModel$":
        "layers with nothing to prune are not wrapped",
    r"CustomNonPrunableLayer|(KerasUnsupported|UnsupportedKeras)Layer|SupportedSubclassLayers":
        "what tfmot refuses has kernels, and is pruned",
    "testPruneMiscObject|ForLatencyOnXNNPackPolicy(MiddleLayer|NoSt)":
        "the error is a LotteryError, and so a ValueError, in other words",
    "testPruneSubclassModel":
        "subclassed models are wrapped; this one is refused since it is not built",
    "NeededForKerasModel":
        "a file loads without prune_scope",
    "CheckpointsNotSparse":
        "every checkpoint is sparse",
    "PruningStepCallbackMissing":
        "a wrapped model trains densely without a callback; strip_pruning warns of it",
    "LogsSummaries_RunInference":
        "steps are counted by the search, not by wrappers",
    "NoPruningLayers":
        "a model in which nothing can be pruned is refused",
    "testPruneSequentialModelForLatency":
        "the error is a LotteryError, and so a ValueError, in other words",
}
# Likewise, of one that passes and shows nothing.
NOTES = {
    "testPrunesEmbedding":
        "finds nothing wrapped: embeddings stay dense unless include= names them",
}


def main() -> None:
    """Runs the tests of a clone, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clone", type=pathlib.Path, help="a git clone of tfmot")
    parser.add_argument("--output", type=pathlib.Path, default=PAGE)
    parser.add_argument("--results", type=pathlib.Path,
                        default=HERE.parent / "build/tfmot_tests",
                        help="a folder; what lies there is not run again")
    parser.add_argument("--worker", nargs=2, metavar=("FILE", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(options.clone, *options.worker)
        return
    version = importlib.metadata.version("tensorflow-model-optimization")
    with tempfile.TemporaryDirectory() as folder:
        data = subprocess.run(["git", "-C", str(options.clone), "archive", f"v{version}", CORE],
                              check=True, stdout=subprocess.PIPE).stdout
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(folder, filter="data")
        found = {way: {name: said for file in FILES for name, said
                       in run(pathlib.Path(folder), file, way, options.results).items()}
                 for way in (STOCK, AS_CALLED, TRANSLATED)}
    options.output.write_text(page(found, version))


def run(folder: pathlib.Path, file: str, way: str, results: pathlib.Path) -> dict[str, str]:
    """What came of the tests of a file.

    Args:
      folder: with tfmot's sources.
      file: of the tests, without its ending.
      way: one of the three.
      results: the folder where it is kept.

    Returns:
      "file: test" -> a line of its error, `PASSES`, or `NEVER` if it calls neither function.
    """
    kept = results / f"{file}.{way}.json"
    if not kept.exists():
        lines = subprocess.run(
            [sys.executable, __file__, str(folder), "--worker", file, way], check=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.splitlines()
        print(f"{file}, {way}: {len(lines)} tests", flush=True)
        results.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(dict(map(json.loads, lines)), indent=1))
    return {f"{file}: {name}": said for name, said in json.loads(kept.read_text()).items()}


def page(found: dict[str, dict[str, str]], version: str) -> str:
    """The page: how many pass, and a row for every test."""
    rows = [(name, *(found[way][name] for way in (STOCK, AS_CALLED, TRANSLATED)))
            for name, said in found[STOCK].items() if said != NEVER]
    count = {way: sum(row[place] == PASSES for row in rows)
             for place, way in enumerate((STOCK, AS_CALLED, TRANSLATED), 1)}
    reasons = {name: why(name) for name, _, _, said in rows if said != PASSES}
    told = sum("LotteryError" in plain for _, _, plain, _ in rows)
    unknown = list(reasons.values()).count(UNEXPLAINED)
    lines = [
        "# tfmot's own pruning tests", "",
        "What becomes of the tests that tfmot has of `prune_low_magnitude` and `strip_pruning` if "
        "the functions of this package stand in their place.  Written by "
        "`python studies/tfmot_tests.py CLONE`, which runs the tests of the installed version from "
        "a clone of tfmot's repository.", "",
        f"Of {len(rows)} tests that call them {count[STOCK]} pass with tfmot's own functions.  "
        f"With this package's, called as the tests call tfmot's, {count[AS_CALLED]} pass, and "
        f"{told} end in an error that says what to write in place of a schedule or a callback.  "
        "Once these are translated (`pruning_schedule=` goes to a callback, which prunes the "
        "wrapped model when that schedule says so, and what is pruned is read from the wrappers) "
        f"{count[TRANSLATED]} pass.  The other {len(reasons)} differ by design"
        f"{f', but for {unknown} without a reason' if unknown else ''}.", "",
        "| test | as called | translated | why |", "|---|---|---|---|",
        *(f"| {_cell(name)} | {_word(plain)} | {_word(said)} | "
          f"{_cell(reasons.get(name) or _first(NOTES, name))} |"
          for name, _, plain, said in rows), "",
        f"tensorflow-model-optimization {version}, tensorflow "
        f"{importlib.metadata.version('tensorflow')}, tf_keras "
        f"{importlib.metadata.version('tf_keras')}."]
    return "\n".join(lines) + "\n"


def why(name: str) -> str:
    """The decision by which a test does not pass, or `UNEXPLAINED`."""
    return _first(DIFFERENT, name) or UNEXPLAINED


def _first(reasons: dict[str, str], name: str) -> str:
    return next((reason for tests, reason in reasons.items() if re.search(tests, name)), "")


def _word(said: str) -> str:
    return "passes" if said == PASSES else "differs"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# In a process of its own: one file of tests, one way.


def _work(folder: pathlib.Path, file: str, way: str) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # Tests print.
    _load(folder / CORE / "keras/test_utils.py", "keras.test_utils", way)
    called = _substitute(way)
    _load(folder / CORE / "sparsity/keras/test_utils.py", "sparsity.keras.test_utils", way)
    tests = _load(folder / CORE / f"sparsity/keras/{file}_test.py", f"sparsity.keras.{file}_test",
                  way)
    for test in _flat(unittest.defaultTestLoader.loadTestsFromModule(tests)):
        called.clear()
        result = unittest.TestResult()
        test.run(result)
        said = [_last_line(trace) for _, trace in (*result.errors, *result.failures)]
        if result.skipped or (not called and way == STOCK):
            said = [NEVER]
        # Without addresses, and numbers that go by the order of a set.
        name = test.id().rpartition(f"{type(test).__name__}.")[2]
        name = re.sub(r" at 0x\w+|\d+(?= \(<)", "", name)
        print(json.dumps([name, said[0] if said else PASSES]), file=answers, flush=True)


def _last_line(trace: str) -> str:
    raised = re.compile(r"[\w.]+(Error|Exception)\b")
    lines = [line for line in trace.splitlines() if raised.match(line)]
    return lines[-1][:300] if lines else trace[-300:]


def _load(path: pathlib.Path, name: str, way: str) -> types.ModuleType:
    full = f"{CORE.replace('/', '.')}.{name}"
    module = sys.modules[full] = types.ModuleType(full)
    package, _, last = full.rpartition(".")
    setattr(importlib.import_module(package), last, module)
    source = path.read_text()
    if way == TRANSLATED:  # What a wrapper prunes, it says itself.
        source = source.replace("layer.layer.get_prunable_weights()", "layer.prunable_weights")
    exec(compile(source, str(path), "exec"), vars(module))
    return module


def _flat(suite: Any) -> list[Any]:
    return [test for part in suite for test in _flat(part)] \
        if isinstance(suite, unittest.TestSuite) else [suite]


def _substitute(way: str) -> list[str]:
    """Puts this package's functions in the place of tfmot's; returns the calls, as they come."""
    from tensorflow_model_optimization.python.core.sparsity.keras import prune, pruning_callbacks

    import lth_keras as lth
    called: list[str] = []

    def noted(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            called.append(function.__name__)
            return function(*args, **kwargs)
        return call
    theirs = way == STOCK
    wrap = prune.prune_low_magnitude if theirs else lth.prune_low_magnitude
    if way == TRANSLATED:
        wrap = Follows.wrap
        pruning_callbacks.UpdatePruningStep = Follows.callback()
    prune.prune_low_magnitude = noted(wrap)
    prune.strip_pruning = noted(prune.strip_pruning if theirs else lth.strip_pruning)
    return called


class Follows:
    """Prunes a model that this package has wrapped when a schedule of tfmot's says so."""

    schedule: Any = None  # The last that was given.

    @staticmethod
    def wrap(to_prune: Any, pruning_schedule: Any = None, **options: Any) -> Any:
        """`lth.prune_low_magnitude`, which is given no schedule."""
        import tensorflow_model_optimization as tfmot

        import lth_keras as lth
        Follows.schedule = pruning_schedule or \
            tfmot.sparsity.keras.ConstantSparsity(0.5, begin_step=0)
        return lth.prune_low_magnitude(to_prune, **options)

    @staticmethod
    def callback() -> type:
        """The class of the callback that stands for tfmot's UpdatePruningStep."""
        import tf_keras as keras

        class Callback(keras.callbacks.Callback):
            """Prunes at the beginning of a batch."""

            def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
                Follows.step(self.model)

            def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
                """Takes tfmot's name of its argument, too."""
        return Callback

    @staticmethod
    def step(model: Any) -> None:
        """Counts a step, and prunes to the schedule's sparsity if it is one at which it prunes."""
        import numpy as np
        import tensorflow as tf

        from lth_keras.core.pruning import prune
        from lth_keras.keras2 import rewinding
        from lth_keras.keras2.masking.weight_names import masked
        items = masked(model)
        if not items:
            return
        for wrapper in {id(item.wrapper): item.wrapper for item in items.values()}.values():
            wrapper.pruning_step.assign_add(1)
        now = next(iter(items.values())).wrapper.pruning_step
        due, sparsity = Follows.schedule(tf.identity(now))
        if not bool(due):
            return
        masks = rewinding.read_masks(model)
        weights = rewinding.read({name: item.weight for name, item in items.items()})
        fractions = {name: _fraction(mask, float(sparsity)) for name, mask in masks.items()}
        structures = {name: item.structure for name, item in items.items()}
        if any(structure.by_rounds and not masks[name].all()
               for name, structure in structures.items()):
            return  # m of n are pruned once.
        masks = prune({name: np.abs(value) for name, value in weights.items()}, masks, fractions,
                      structures=structures)
        rewinding.assign(model, weights, masks)


def _fraction(mask: Any, sparsity: float) -> float:
    # tfmot keeps a share of all weights, and at least one.
    kept = max(round(mask.size * (1 - sparsity)), 1)
    return float(max(1 - kept / mask.sum(), 0.0))


if __name__ == "__main__":
    main()
