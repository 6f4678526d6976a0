"""`lth.Search`: prunes one model level by level, and rewinds it to theta_k each time.

It does not train the model.  LotteryTicketCallback calls it from Keras' hooks; a training loop of
your own calls it like this:

    model.compile(optimizer)                  # so that the optimizer is rewound too
    search = Search(model, fraction=0.2)      # captures theta_0
    for level in range(rounds):
        ...train in Python, in a tf.function, or compiled by XLA...
        search.prune_and_rewind()
    ...train, then search.check_trained()...  # prune_and_rewind has done it for the others
    search.tickets[-1].save("winner.ticket")
"""

import contextlib
import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras import notebook, providers
from lth_keras.arguments import check_choice, given
from lth_keras.core import criteria, invariants
from lth_keras.core import masks as mask_arrays
from lth_keras.core.fractions import check as check_fraction
from lth_keras.core.fractions import Fraction
from lth_keras.core.fractions import plain as plain_fraction
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.next_masks import Provided, PruningRule
from lth_keras.core.pruning import Scope, SCOPES
from lth_keras.core.seeding import generator
from lth_keras.core.structures.coupled import kept_units, shrunk
from lth_keras.core.structures.filters import Filters
from lth_keras.core.structures.words import named
from lth_keras.errors import LotteryError
from lth_keras.files import provenance
from lth_keras.files.ticket import Ticket
from lth_keras.search import scoring
from lth_keras.search.network import network_of, Restored, Snapshot
from lth_keras.search.training_checks import TrainingChecks


class Search:
    """Holds the masks, theta_k and tickets of one model while it is pruned level by level.

    Args:
      model: a compiled model: of tf_keras with pruning wrappers, ours or tfmot's, or of Keras 3 as
        it is.
      fraction: share of the remaining weights that a round prunes; see LotteryTicketSchedule.
      scope: "layer" compares scores within each weight, "global" among all weights with the same
        fraction.
      criterion: "magnitude", "random", "taylor" or a function (initial, final, rng) -> scores;
        see `core.criteria`.  Where filters are pruned also "l1", "l2", "batch_norm_scale",
        "activation" and one of your own; see `core.unit_criteria`.
      multiple_of: where filters are pruned, a layer that loses some keeps a multiple of this
        number, at most as many as `fraction` leaves and at least one multiple.  With 8, the time
        of most runtimes falls with the filters: their kernels work on so many channels together,
        so that 11 of 16 filters take as long as 16.
      seed: the seed of criteria that draw random numbers.
      check: whether `enforce` and `prune_and_rewind` verify the invariants.
      facts: facts to store in the tickets; JSON values.
      take_theta: whether to capture theta_k now; otherwise call `take_theta` later.
      rounds: the number of rounds, >= 1. It matters only if the model was wrapped with
        `sparsity_m_by_n=(m, n)`: every round then prunes m / rounds of every n weights.
      scoring_data: data for criteria that need a gradient or activations: (x, y), (x, y,
        sample_weight) or a finite tf.data.Dataset of such batches; for a Keras 3 model also a
        keras.utils.PyDataset or a torch DataLoader.  All of it is used at the end of every round.
      include, exclude, structure: for a Keras 3 model, what to prune of it, as
        `lth.prune_low_magnitude` takes them for one of tf_keras.  A model to which a ticket of
        filters was applied goes on in filters without being told.

    Attributes:
      level: how many times this search has pruned the model.
      masks: weight name -> uint8 mask of the level in training.
      network: the model as the search sees it, whichever Keras it is of.
      rule: what decides which weights are pruned.
      note: if filters are pruned, how many, and which layers keep all of theirs and why; else "".
      training: checks that the model is trained by what the search rewinds.
      tickets: the tickets of levels 0 to `level`, once theta_k is captured.

    Example:
      >>> import tf_keras as keras
      >>> from lth_keras import prune_low_magnitude
      >>> model = prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((4,)), keras.layers.Dense(10)]))
      >>> model.compile("adam", "mse")
      >>> search = Search(model, fraction=0.5)
      >>> restored = search.prune_and_rewind()  # After training the model.
      >>> search.level, search.density
      (1, 0.5)
    """

    def __init__(self, model: Any, *, fraction: Fraction = 0.2, scope: Scope = "layer",
                 criterion: criteria.CriterionLike = "magnitude", seed: int = 0,
                 check: bool = False, facts: Mapping[str, Any] | None = None,
                 take_theta: bool = True, rounds: int = 1, scoring_data: Any = None,
                 include: Any = None, exclude: Any = None, structure: str | None = None,
                 multiple_of: int = 1):
        check_choice("scope", scope, SCOPES)
        self.network = network = network_of(
            model, **given(include=include, exclude=exclude, structure=structure))
        network.check_ready()
        fraction = check_fraction(fraction)
        self.model = model
        self.level = 0
        self.tickets: list[Ticket] = []
        self._seed = seed
        self._check = check
        self._rewound = False  # Whether the next step is the first after a rewinding.
        self.rule = PruningRule.of(
            [*network.prunable.values()], network.shapes, fraction=fraction, criterion=criterion,
            structures=network.structures, scope=scope, rounds=rounds, multiple_of=multiple_of,
            provided=scoring.provided(scoring_data), caller="Search")
        self.note = self.rule.note
        self._provided = self._providers(scoring_data)
        self._theta: Snapshot | None = None
        self.training = TrainingChecks(network)
        self.masks: dict[str, Array] = network.masks()
        settings = {"fraction": plain_fraction(fraction), "scope": scope, "seed": seed,
                    "criterion": criteria.name_of(criterion), **named(network.structures),
                    **({"multiple_of": multiple_of} if multiple_of != 1 else {}),
                    **(facts or {})}
        self._provenance = {"versions": provenance.versions(self.network.packages),
                            "settings": settings,
                            "fingerprint": provenance.fingerprint(settings)}
        # Weights that are already pruned stay pruned, so that a search can continue a ticket.
        network.zero_pruned()
        if take_theta:
            self.take_theta()

    @property
    def density(self) -> float:
        """The density of the level in training, in [0, 1]."""
        return mask_arrays.density(self.masks)

    @property
    def has_theta(self) -> bool:
        """Whether theta_k has been captured."""
        return self._theta is not None

    @property
    def theta(self) -> Snapshot | None:
        """The state of the model and its optimizer at step k, or None if not captured yet."""
        return self._theta

    def take_theta(self) -> None:
        """Captures the model and its optimizer as theta_k, to which the model will be rewound.

        Raises:
          DivergedError: if a weight is NaN or infinite.
        """
        self.check_finite()
        self._theta = self.network.capture()
        self.training.begin()
        self._add_ticket({})

    def resume(self, masks: Mapping[str, Array], theta: Snapshot | None,
               tickets: Sequence[Ticket]) -> None:
        """Resumes an earlier search of the same model.

        Args:
          masks: the masks of the level in training; they are not assigned to the model.
          theta: theta_k, or None if it was not captured yet.
          tickets: the tickets of levels 0, 1, ... up to the level in training; empty without
            theta_k.
        """
        self.masks, self._theta = dict(masks), theta
        self.tickets = list(tickets)
        self.level = max(len(self.tickets) - 1, 0)
        self.training.begin(mid_round=True)

    @contextlib.contextmanager
    def smaller(self) -> Iterator[Any]:
        """Provides the model without its pruned filters, to train this level at what is left.

        It is an ordinary model, compiled as the search's is, with its weights and its optimizer's
        state: fit it with any callbacks, or train it in a loop.  When the `with` block ends, the
        model gets the trained weights.  Up to rounding, and to what layers such as Dropout draw,
        they are those of training the model itself.  Only its weights come back: states of
        stateful layers and of the optimizer do not, which a rewound round does not need.

        Raises:
          LotteryError: if no filters are pruned, theta_k is not captured yet, or the model is
            trained in a way that the smaller one has not: by add_loss, or by methods of its class.

        Example:
          >>> import keras
          >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="a"),
          ...                           keras.layers.Dense(2, name="b")])
          >>> model.compile("sgd", "mse")
          >>> search = Search(model, structure="filters", fraction=0.5)
          >>> restored = search.prune_and_rewind()  # After training level 0.
          >>> with search.smaller() as small:
          ...     history = small.fit(np.ones((4, 4)), np.ones((4, 2)), verbose=0)
          ...     small.layers[0].units
          4
        """
        if self._theta is None:
            raise LotteryError("A level has a smaller model once theta_k is captured. Received: a "
                               "search without it. Call take_theta first.")
        with providers.provider(providers.SMALLER)(self.network, self.masks) as model:
            if model is not self.model:
                self.training.trained_elsewhere()
            yield model

    def enforce(self) -> None:
        """Sets pruned weights to zero again; call it after every batch.

        This is necessary only with tfmot's own wrappers.  With `check`, it also verifies that all
        pruned weights are exactly zero.  The first time after a rewinding, and with `check` every
        time, it verifies that no gradient has reached them.

        Raises:
          LotteryError: at the first step, if a weight gets its gradient past its mask.
          InvariantError: if a pruned weight is not zero, or its optimizer slots are not fresh.
        """
        self.network.enforce()
        self.training.gradients_are_masked()
        if self._check:
            invariants.pruned_are_zero(self.network.prunable_weights(), self.masks)
        # Without check once a round too: what reads a weight past its mask does so at every step.
        if self._theta is not None and (self._check or self._rewound):
            invariants.slots_are_fresh(*self.network.slots(self._theta), self.masks)
        self._rewound = False

    def not_finite(self) -> dict[str, int]:
        """Returns how many values are NaN or infinite, for each weight that has any."""
        counts = {name: int(np.count_nonzero(~np.isfinite(value)))
                  for name, value in self.network.weights().items()}
        return {name: count for name, count in counts.items() if count}

    def check_finite(self, loss: float | None = None) -> None:
        """Checks that the round has not diverged.

        Args:
          loss: the training loss, if it is known.

        Raises:
          DivergedError: if the loss or a weight is NaN or infinite.
        """
        self.training.is_finite(loss, self.not_finite(), self.level)

    def check_trained(self) -> None:
        """Checks that the model has the masks of the level, and nothing has moved pruned weights.

        Raises:
          LotteryError: if weights of another level were put back, or trained past their masks.
        """
        self.network.check_trained(self.network.prunable_weights(), self.masks)

    def check_begun(self) -> None:
        """Checks, before a step, that it begins where the model was rewound to, if it is the first.

        Raises:
          LotteryError: if the weights have moved since.
        """
        if self._rewound and self._theta is not None:
            self.training.begins_rewound(self.network.prunable_weights(), mask_arrays.apply(
                self._theta.weights, self.masks))

    def prune_and_rewind(self, metrics: Mapping[str, Any] | None = None) -> Restored:
        """Ends a round: prunes the lowest scores, and rewinds the model to theta_k.

        Args:
          metrics: measurements of the round, to store in the new ticket.

        Returns:
          What was restored.

        Raises:
          LotteryError: if theta_k has not been captured, the model was compiled again since or
            trained past its masks, or a score is NaN.
          DivergedError: if a weight is NaN or infinite; the masks are not changed then.
          InvariantError: with `check`, if masks are not nested or a survivor differs from theta_k.
        """
        if self._theta is None:
            raise LotteryError("A round must reach rewind_step before it ends. Received: the end "
                               "of the first round without theta_k.")
        self.check_finite()
        self.training.compiled_as_before()
        final, theta = self.network.prunable_weights(), self._theta.weights
        self.network.check_trained(final, self.masks)
        self.training.optimizer_is_known(final, self._theta, self.masks, self.level)
        before, self.masks = self.masks, self._pruned(self.rule, theta, final)
        # Before the weights are rewound: tfmot's summaries show thresholds of the trained weights.
        self.network.assign_masks(self.masks)
        restored = self.network.restore(self._theta, self.masks)
        self.training.begin_round()
        self._rewound = True
        self.level += 1
        if self._check:
            now = self.network.prunable_weights()
            invariants.nested(self.masks, before)
            invariants.survivors_are_rewound(now, theta, self.masks)
            invariants.pruned_are_zero(now, self.masks)
        self._add_ticket(metrics or {})
        return restored

    def next_masks(self, rule: "PruningRule | None" = None) -> dict[str, Array]:
        """Returns the masks that `prune_and_rewind` would give now; it changes nothing.

        Args:
          rule: what decides which weights are pruned, instead of the search's own.

        Raises:
          LotteryError: if theta_k has not been captured, or a score is NaN.

        Example:
          >>> import tf_keras as keras
          >>> from lth_keras import prune_low_magnitude
          >>> model = prune_low_magnitude(keras.Sequential([
          ...     keras.layers.Input((4,)), keras.layers.Dense(10, name="a")]))
          >>> model.compile("adam", "mse")
          >>> search = Search(model, fraction=0.25)
          >>> int(search.next_masks()["a/kernel"].sum()), search.density
          (30, 1.0)
        """
        if self._theta is None:
            raise LotteryError("The next masks are known once theta_k is captured. Received: a "
                               "search without it. Call take_theta first.")
        return self._pruned(rule or self.rule, self._theta.weights, self.network.prunable_weights())

    def costs(self) -> dict[str, float]:
        """Returns what the level in training costs without its pruned filters.

        Returns:
          macs_left, the share of the dense network's multiply-adds; and parameters and macs, the
          numbers of both that are left.  {} where single weights are pruned, whose costs depend on
          the runtime.

        Raises:
          LotteryError: if the shape of an example is not known.
        """
        structure = next(iter(self.rule.structures.values()))
        if not isinstance(structure, Filters):
            return {}
        found = providers.provider(providers.PROFILE)(self.model)
        groups = structure.groups
        small = shrunk(groups, kept_units(groups, self.masks), self.network.weights())
        return {"macs_left": found.macs_kept / max(found.macs, 1),
                "parameters": sum(int(value.size) for value in small.values()),
                "macs": found.macs_kept}

    def __repr__(self) -> str:
        theta = "" if self.has_theta else ", theta_k not captured yet"
        return (f"<Search of {self.model.name!r}: level {self.level}, {self.density:.1%} of the "
                f"weights{theta}>")

    def _repr_html_(self) -> str:
        return notebook.page(
            f"Search of {self.model.name!r}: level {self.level}, {self.density:.1%} of the weights",
            ("weight", "shape", "kept", "density"),
            ((name, mask.shape, f"{int(mask.sum()):,}", f"{mask.mean():.2%}")
             for name, mask in self.masks.items()),
            *([self.note] if self.note else []))

    def _pruned(self, rule: PruningRule, theta: Arrays, final: Arrays) -> dict[str, Array]:
        # A generator for each level, so that a resumed search draws what it would have drawn.
        rng = generator(self._seed, "criterion", level=self.level)
        return rule.next_start(theta, self.masks, final, rng, level=self.level,
                               provided=self._provided)[1]

    def _providers(self, scoring_data: Any) -> Provided:
        # The values that a criterion may need, as functions: they are computed only if it does.
        scoring.check_used(self.rule.criterion, scoring_data)
        if scoring_data is None:
            return {}
        needs = self.rule.criterion.needs
        found = self._gradients(scoring_data) if any("gradient" in need for need in needs) else {}
        if "activation" in needs:
            found["activation"] = self.network.activations(scoring_data)
        return found

    def _gradients(self, scoring_data: Any) -> dict[str, Callable[[], Arrays]]:
        gradient = self.network.loss_gradient(scoring_data)

        def at_theta() -> Arrays:
            assert self._theta is not None
            # The trained weights are put back afterwards: other callbacks may still read them.
            now = self.network.weights()
            self.network.assign(self._theta.weights, self.masks)
            try:
                return gradient()
            finally:
                self.network.assign(now, self.masks)
        return {"gradient": gradient, "initial_gradient": at_theta}

    def _add_ticket(self, metrics: Mapping[str, Any]) -> None:
        # All tickets share the arrays of theta_k: only masks take memory.
        assert self._theta is not None
        self.tickets.append(Ticket(self._theta.weights, self.masks, self.level,
                                   {**self._provenance, "pruned_after": _finite(metrics)}))


def _finite(metrics: Mapping[str, Any]) -> dict[str, Any]:
    # JSON has no NaN: values that are not finite are stored as text.
    return {name: value if not isinstance(value, numbers.Real) or isinstance(value, int)
            else float(value) if math.isfinite(value) else str(float(value))
            for name, value in metrics.items()}
