"""How the speed of a training is measured, and for how long."""

import math

import pytest
import small
from small import CONFIG

from lth_keras.experiments.training.network_trainer import Stopwatch, WITHIN

pytestmark = pytest.mark.usefixtures("tiny_network")


class Clock:
    """A training of so many seconds a step and a validation, and what it was asked for."""

    def __init__(self, step, validation, compilation=10.0):
        self.step, self.validation, self.compilation = step, validation, compilation
        self.asked, self.taken = [], []

    def __call__(self, count):
        self.asked.append(count)
        compiling = 0.0 if self.taken else self.compilation
        self.taken.append(compiling + count * self.step + self.validation)
        return self.taken[-1]


@pytest.mark.parametrize(("step", "validation"), [
    (1e-3, 0.05), (0.1, 0.5), (0.5, 2.0), (2.0, 12.0), (2.0, 60.0), (30.0, 1.0)])
def test_nothing_is_tried_again_when_the_time_is_over(step, validation):
    clock = Clock(step, validation)
    speed = Stopwatch(clock, most=100, evaluated=3.0).measure()
    assert (speed.step, speed.validation) == pytest.approx((step, validation))
    assert speed.compilation == pytest.approx(10.0)
    assert speed.evaluation == pytest.approx(3 * validation)
    # A step and a validation, and two steps and a validation, are needed to tell one from the
    # other: only slow networks take longer for that.
    needed = 3 * step + 2 * validation
    assert sum(clock.taken[1:]) <= max(WITHIN + 1, needed)
    assert speed.timed == clock.asked[-1]


def test_a_network_is_compiled_once():
    clock = Clock(0.1, 1.0)
    stopwatch = Stopwatch(clock, most=100, evaluated=1.0)
    assert stopwatch.compile() == stopwatch.compile() == pytest.approx(11.1)
    assert clock.asked == [1]
    assert stopwatch.measure(math.inf).compilation == pytest.approx(10.0)


@pytest.mark.parametrize("brief", [False, True])
def test_a_dry_run_validates_few_examples_and_tells_the_speed_of_all(brief, monkeypatch):
    from lth_keras.experiments.training import round_runner
    monkeypatch.setattr(round_runner, "_BRIEF", 4)
    runner = small.lab(CONFIG.replace(seed=11))
    runner._stopwatches.clear()
    validated = []

    def stopwatch(spec):
        validated.append(len(spec.validation))
        return Stopwatch(Clock(0.1, 0.25 * len(spec.validation)), 100, 1.0)
    monkeypatch.setattr(runner.trainer, "stopwatch", stopwatch, raising=False)
    assert runner.compile(brief) == pytest.approx(10.1 + 0.25 * validated[0])
    speed = runner.measure(brief)
    runner._stopwatches.clear()
    assert validated == [4 if brief else CONFIG.validation_size]
    assert (speed.step, speed.validation) == pytest.approx((0.1, 0.25 * CONFIG.validation_size))
