"""What a search in `fit` tells its user: where it begins, what each round came to, how it ended."""

import warnings
import weakref
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.core.best_level import judged_by
from lth_keras.core.masks import Arrays
from lth_keras.search.fit.hooks import after_others
from lth_keras.search.fit.round_record import Round
from lth_keras.search.network import Restored
from lth_keras.search.rounds import Rounds
from lth_keras.search.search import Search
from lth_keras.search.target import Target

# Model -> marks of the masks and weights to which a search in `fit` rewound it last.
_REWOUND: "weakref.WeakKeyDictionary[Any, tuple[int, int]]" = weakref.WeakKeyDictionary()


def note_rewound(search: Search) -> None:
    """Notes what the model is now that it was rewound, to know later whether it was trained since.

    Args:
      search: the search, which has just rewound its model.
    """
    _REWOUND[search.model] = _mark(search.masks), _mark(search.network.prunable_weights())


def warn_if_trained(search: Search) -> None:
    """Warns if a new search begins with a network that an earlier training has left behind.

    So it is when a notebook's cell with `fit` runs twice.  It is not if the network was built anew,
    was compiled again after a dense training, or had a ticket applied to it.

    Args:
      search: the search, before its first step, which resumes no other.
    """
    steps, dense = search.network.iterations(within=False), search.density == 1
    left = _REWOUND.get(search.model)
    # Compiled again, its optimizer is fresh: only its weights tell that it was trained.
    goes_on = not dense and left is not None and left[0] == _mark(search.masks) \
        and left[1] != _mark(search.network.prunable_weights())
    if not steps and not goes_on:
        return
    found = [f"whose optimizer has taken {steps:,} step{'s'[:steps != 1]}"] if steps else []
    if not dense:
        found.append(f"of whose weights {1 - search.density:.1%} are pruned")
    ways = "compile it again" if dense else "apply a ticket to it, ticket.apply(model), and compile"
    warnings.warn(
        "Level 0 of a search should be an untrained network, to which later levels are rewound. "
        f"Received: {search.model.name!r}, {' and '.join(found)}, as when a notebook's "
        "cell with fit runs twice. To start over, run the code that builds and compiles the model "
        f"again; if these weights are meant to be level 0's, {ways}.", stacklevel=2)


def _mark(arrays: Arrays) -> int:
    mark = 0
    for name, value in arrays.items():
        mark = zlib.crc32(np.ascontiguousarray(value).view(np.uint8).data, zlib.crc32(
            name.encode(), mark))
    return mark


def round_line(ended: Mapping[str, Any], now: Round, rounds: int, restored: Restored,
               verbose: int) -> str:
    """Returns the line that is printed when a round begins.

    Args:
      ended: the row of the round that has ended.
      now: the round that begins.
      rounds: how many rounds the search has.
      restored: what was rewound.
      verbose: 2 adds it to the line.

    Example:
      >>> print(round_line({"level": 0, "loss": 0.25, "val_loss": 0.5, "val_accuracy": 0.875},
      ...                  Round(1, 0.8), 3, Restored(4, 0, 8, 0, 0.001), verbose=1))
      level 1 of 3: 80.00% of the weights left; level 0 ended with val_accuracy 0.8750, val_loss \
0.5000
    """
    internals = f"; {restored}" if verbose > 1 else ""
    return (f"level {now.level} of {rounds}: {now.density:.2%} of the weights left; "
            f"{ended_line(ended)}{internals}")


def ended_line(row: Mapping[str, Any]) -> str:
    """Returns in words with which metrics a level ended.

    Example:
      >>> ended_line({"level": 2, "loss": 0.25, "mae": 1.5})
      'level 2 ended with loss 0.2500'
      >>> ended_line({"level": 2, "steps": 6})
      'level 2 ended'
    """
    judged = judged_by(row)
    names = [judged, "val_loss" if judged else "loss"]
    told = [f"{name} {row[name]:.4f}" for name in dict.fromkeys(names) if name in row]
    return f"level {row['level']} ended" + (f" with {', '.join(told)}" if told else "")


def state(schedule: Rounds, rows: Sequence[Mapping[str, Any]], best: "int | None") -> str:
    """Returns how far a search is, in a few words.

    Args:
      schedule: its rounds.
      rows: the rows of the levels so far.
      best: the level to take, if it is known.

    Example:
      >>> state(Rounds(rounds=3, epochs_per_round=2), [
      ...     {"level": 1, "density": 0.8, "val_loss": 0.5}], best=0)
      'rounds=3, epochs_per_round=2, level 1 reached, 80.0% of the weights; best: level 0 by \
val_loss'
    """
    given = schedule.settings
    length = next(name for name in ("epochs_per_round", "steps_per_round") if given[name])
    plan = f"rounds={given['rounds']}, {length}={given[length]}"
    if not rows:
        return f"{plan}, not fitted yet"
    return (f"{plan}, level {rows[-1]['level']} reached, {rows[-1]['density']:.1%} of the weights"
            f"{'' if best is None else f'; best: level {best} by {judged_by(rows[0])}'}")


def keep_from_bar(model: Any) -> None:
    """Keeps the level out of Keras' progress bar, which would show it as "level: 0.0000e+00".

    All other callbacks get it.

    Args:
      model: the model of the fit, at the end of an epoch.
    """
    after_others(model, "on_epoch_end",
                 lambda epoch, logs=None: (logs or {}).pop("level", None))


def warn_of_rate(now: Round, rate: "float | None", expected: "float | None") -> None:
    """Warns that a level trains at another learning rate than level 0 did at the same step."""
    warnings.warn(
        f"Level {now.level} trains at a learning rate of {rate:g} from step {now.steps} of its "
        f"round on, where level 0 had {expected:g}: levels are to differ by their masks alone. A "
        "callback beside the LotteryTicketCallback, such as LearningRateScheduler or "
        "ReduceLROnPlateau, goes on counting from level to level. List it in round_callbacks, "
        "where it starts over with each.", stacklevel=6)


def warn_missed(target: "Target | None", last: Round) -> None:
    """Warns if a search has ended before its target was reached."""
    if target is None or target.is_reached(last.left):
        return
    left = ", ".join(f"{share:.1%} of its {name}" for name, share in last.left.items())
    warnings.warn(f"the search ended before its target, until={dict(target.shares)}: level "
                  f"{last.level} has {left}. Give it more rounds, or a larger fraction.",
                  stacklevel=4)


def warn_unfinished(now: Round, rounds: int, resumable: bool) -> None:
    """Warns that a fit has ended before its search did.

    Args:
      now: the round in which it ended.
      rounds: how many rounds the search has.
      resumable: whether it has a workdir, from which the next run goes on.
    """
    more = "" if resumable else (
        "Call fit again with the same callback to go on with it; fit(epochs=lottery.epochs) trains "
        "a whole search at once. ")
    warnings.warn(f"fit ended before the search did: at level {now.level} of {rounds}, after "
                  f"{now.steps} steps of its round. {more}A callback that should end only a round, "
                  "such as EarlyStopping, belongs in round_callbacks.", stacklevel=4)
