"""The command `lth`, telling when its progress first counts a step.

`python -m benchmarks.first_step BEGAN ARGUMENTS...` runs `lth ARGUMENTS...` and prints
the seconds from BEGAN, a time of the same clock, to the first finished step.
"""

import sys
import time
from typing import Any


def main() -> None:
    """The entry point."""
    began = float(sys.argv[1])
    sys.argv = ["lth", *sys.argv[2:]]
    from lth_keras.cli import main as cli
    from lth_keras.experiments.progress import ProgressDisplay
    shown, told = ProgressDisplay.steps, []

    def steps(self: Any, count: int) -> None:
        if count and not told:
            told.append(time.time() - began)
            print(f"first step after {told[0]:.3f} s", flush=True)
        shown(self, count)

    ProgressDisplay.steps = steps
    cli.main()


if __name__ == "__main__":
    main()
