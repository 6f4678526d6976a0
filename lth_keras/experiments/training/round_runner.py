"""Runs one round of an experiment, from a ticket to the ticket of the next level.

    1. Start from the ticket: theta_k and its mask.  At level 0, draw theta_0.
    2. Train it to step T.
    3. Score the remaining weights by their trained values, and prune the lowest scores.
    4. Rewind the survivors to theta_k: this is the ticket of the next level.

(Frankle & Carbin, ICLR 2019, sections 1 and 2.)  A control (package `controls`) starts from other
weights or masks made from the ticket.  Other strategies and retrainings change steps 1, 3 and 4
(`config.strategies`).  Every training begins with a fresh optimizer, also at step k, where the
learning-rate schedule continues from step k.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lth_keras.controls.control import INVERTED, THETA_0, TRAINED
from lth_keras.controls.known import CONTROLS
from lth_keras.core.masks import Array, Arrays, costs, density, ones
from lth_keras.core.next_masks import Provided, PruningRule
from lth_keras.core.seeding import generator
from lth_keras.core.structures.coupled import kept_units, shrunk, spread_units
from lth_keras.core.structures.filters import Filters
from lth_keras.core.structures.words import parse
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import validation
from lth_keras.experiments.config.branches import TICKET
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.config.strategies import FinishedRound, RETRAININGS, STRATEGIES
from lth_keras.experiments.config.trainings import chain, span, takes_from, Training
from lth_keras.experiments.results.outcome import Outcome, Speed, StartingPoint
from lth_keras.experiments.results.record import DENSITY, MACS, MACS_LEFT, PARAMETERS
from lth_keras.experiments.training.at_init_masks import AtInitMasks
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.network_trainer import NetworkTrainer, OnInterval, Stopwatch
from lth_keras.experiments.training.smaller_trainer import SmallerTrainer
from lth_keras.experiments.training.spec import Trained, TrainingSpec
from lth_keras.files.ticket import Ticket

_BRIEF = 480  # Validation examples of a brief measurement: as many as 1 to 6 or 8 replicas share.


class RoundRunner:
    """Runs the rounds of a configuration, on a network that is compiled once.

    Args:
      config: the settings.
      data: the data set that the settings name.
      make_trainer: makes what trains the network, once it is known that the data fit.

    Attributes:
      trainer: what trains the network.
      rule: what decides which of its weights are pruned.

    Raises:
      LotteryError: if the settings do not fit the network or the data set.
    """

    def __init__(self, config: Config, data: Data, make_trainer: Callable[[], NetworkTrainer]):
        self._config = config
        self._strategy = STRATEGIES[config.strategy]
        self._retraining = RETRAININGS[config.retraining]
        self._examples = len(data.y_train)
        _check_examples(config, self._examples)
        self.trainer = make_trainer()
        # That of all weights; where filters are pruned, it has the groups of the network.
        self._structure = next(iter(self.trainer.structures.values()))
        # Fewer filters cost fewer multiply-adds; what single weights cost depends on the runtime.
        self._uses = self.trainer.uses() if self._structure.coupled else None
        if self._structure.coupled:
            self.trainer = SmallerTrainer(self.trainer)
        self.rule = _pruning_rule(config, self.trainer)
        self._stopwatches: dict[bool, tuple[Stopwatch, float]] = {}
        self._at_init = AtInitMasks(config, data, self.trainer, self.rule,
                                    lambda replicate: self._split(replicate)[0])

    def compile(self, brief: bool = False) -> float:
        """Compiles the training program, which a training does otherwise; returns the seconds.

        Args:
          brief: whether to compile it for a small part of the validation examples: where nothing
            is trained afterwards, measuring is then quick for slow networks too.
        """
        return self._stopwatch(brief)[0].compile()

    def measure(self, brief: bool = False) -> Speed:
        """Measures the speed of training the dense network, and compiles before that if need be.

        Args:
          brief: see `compile`.
        """
        stopwatch, share = self._stopwatch(brief)
        speed = stopwatch.measure()
        return dataclasses.replace(speed, validation=speed.validation / share, note=self.rule.note)

    def _stopwatch(self, brief: bool) -> tuple[Stopwatch, float]:
        # And the share of the validation examples that it evaluates.
        if brief not in self._stopwatches:
            ticket = self._first_ticket(0)
            spec = self._spec(Training(0, 0), ticket.weights, ticket.masks)
            whole, some = len(spec.validation), spec.validation[:_BRIEF if brief else None]
            self._stopwatches[brief] = self.trainer.stopwatch(
                dataclasses.replace(spec, validation=some)), len(some) / whole
        return self._stopwatches[brief]

    def train(self, training: Training, start: StartingPoint,
              on_interval: Callable[[int], None] = lambda steps: None) -> Outcome:
        """Runs one round from a ticket, or trains a control.

        Args:
          training: the replicate, level and branch.
          start: the ticket to start from; without one, at level 0, initial weights are drawn.
          on_interval: called after each validation with the number of steps since the last.
        """
        return self.train_together([(training, start)],
                                   lambda place, steps: on_interval(steps))[0]

    def train_together(self, group: Sequence[tuple[Training, StartingPoint]],
                       on_interval: OnInterval = lambda place, steps: None) -> list[Outcome]:
        """Runs rounds and controls, each as `train` does, at the same time if the engine can.

        Args:
          group: trainings that do not depend on each other, with their starting points.
          on_interval: called after each validation of a training, with its place in the group and
            the number of steps since its last validation.
        """
        begun = [self._begun(training, start) for training, start in group]
        trained = self.trainer.train([spec for _, spec in begun], on_interval)
        return [self._outcome(training, start, ticket, result.masks or spec.masks, result)
                for (training, start), (ticket, spec), result
                in zip(group, begun, trained, strict=True)]

    def _begun(self, training: Training, start: StartingPoint) -> tuple[Ticket, TrainingSpec]:
        ticket = start.ticket or self._first_ticket(training.replicate, start.source.get(0))
        # A ticket file may list its weights in another order. Random numbers and ties under
        # global pruning depend on the order, so it is made the model's.
        ticket = dataclasses.replace(ticket, masks={
            name: ticket.masks[name] for name in self.trainer.prunable})
        weights, masks = self._begin(training, ticket, start)
        return ticket, self._spec(training, weights, masks)

    def _outcome(self, training: Training, start: StartingPoint, ticket: Ticket, masks: Arrays,
                 trained: Trained) -> Outcome:
        result = {"density": density(masks), **trained.result,
                  **self._costs(ticket.weights, masks), **{
            f"{DENSITY}{name}": density({name: mask}) for name, mask in masks.items()}}
        outcome = Outcome(result, trained.curve, None if start.ticket else ticket)
        if trained.diverged:
            return outcome
        # The last level of a structure by rounds (M:N) cannot be pruned further. All other runs
        # make one ticket more than they train, so that they can get more rounds later.
        ends = self._structure.by_rounds and training.level == self._config.rounds
        base = chain(self._config, training.replicate, training.level)
        if training == base and not ends and self._has_taken(training, start):
            outcome = dataclasses.replace(
                outcome, following=self._next_ticket(training, ticket, trained, start))
        # Controls' trained weights are kept by no setting: they would take most of the disk, and
        # nothing reads them.
        if self._config.keep_trained == "tickets" and training.branch in (TICKET, base.branch):
            outcome = dataclasses.replace(outcome, trained=Ticket(
                trained.weights, masks, training.level,
                self._provenance(training, trained_to=_measured(trained))))
        return outcome

    def _costs(self, weights: Arrays, masks: Arrays) -> dict[str, Any]:
        # What the network costs without its pruned filters; {} where single weights are pruned.
        if self._uses is None or not isinstance(self._structure, Filters):
            return {}
        dense, left = costs(self._costed(weights, masks), self._uses)
        groups = self._structure.groups
        small = shrunk(groups, kept_units(groups, masks), weights)
        return {MACS_LEFT: left / dense, MACS: round(left),
                PARAMETERS: sum(value.size for value in small.values())}

    def _costed(self, weights: Arrays, masks: Arrays) -> dict[str, Array]:
        # With the kernels of which nothing is ever pruned: they have no mask, and cost as much.
        return {**ones({name: weights[name].shape for name in self._uses or ()}), **masks}

    def _first_ticket(self, replicate: int, source: "Ticket | None" = None) -> Ticket:
        # The dense network: theta_0 with masks of ones, or that of another run.
        if source is not None:
            return self._transferred(replicate, source, 0, pruned_after={})
        training = Training(replicate, 0)
        drawn = self.trainer.initial_weights(self._rng(training, "init"))
        masks = ones(self.trainer.shapes)
        return Ticket(drawn, masks, 0, self._provenance(training, pruned_after={}))

    def _has_taken(self, training: Training, start: StartingPoint) -> bool:
        # A single ticket file that is trained for an export comes without the networks that the
        # next ticket would need, and without the run that it would be of.
        taken = all(other.level in start.taken for other in takes_from(self._config, training))
        return taken and (not self._strategy.from_source or training.level + 1 in start.source)

    def _begin(self, training: Training, ticket: Ticket,
               start: StartingPoint) -> tuple[Arrays, Arrays]:
        # Returns the weights and masks to train from.
        if training.branch in CONTROLS:
            fresh = self.trainer.initial_weights(self._rng(training, "init"))
            return CONTROLS[training.branch].start(
                ticket.weights, ticket.masks, fresh, self._rng(training, "control"),
                self._structure, provided={
                    INVERTED: lambda: self._at_init.masks(
                        training.replicate, training.level, ticket.weights, inverted=True),
                    THETA_0: lambda: (ticket if self._strategy.from_source else
                                      self._first_ticket(training.replicate)).weights,
                    # A control takes one trained network: that which made its ticket's masks.
                    TRAINED: lambda: next(iter(start.taken.values())).weights})
        if training.branch != TICKET:
            return self._strategy.begin(ticket.weights, _weights(start.taken)), ticket.masks
        return (start.theta or ticket).weights, ticket.masks

    def _spec(self, training: Training, weights: Arrays, masks: Arrays) -> TrainingSpec:
        config, (train, validation) = self._config, self._split(training.replicate)
        # data_order="same" repeats the dense network's order of examples at every level; a
        # repetition of the ticket has another order, in which alone it differs.
        repeat = training.branch_index if training.branch == TICKET else 0
        ordered_as = training if config.data_order == "fresh" else \
            Training(training.replicate, 0, branch_index=repeat)
        control = CONTROLS.get(training.branch)
        keeps_theta = self._retraining.rewinds and training == chain(config, training.replicate, 0)
        return TrainingSpec(weights=weights, masks=masks, train=train, validation=validation,
                    order=self._rng(ordered_as, "data_order"),
                    validation_every=config.validation_every, batch_size=config.batch_size,
                    seed=int(self._rng(ordered_as, "draws").integers(2**31 - 2**16)),
                    rewind_step=config.rewind_step if keeps_theta else 0,
                    measured_steps=config.measured_steps, method=control.method if control else "",
                    # Masks that are found in training are those of its last step.
                    patience=config.patience if control and not control.method else 0,
                    **dataclasses.asdict(span(config, training, self._costed(weights, masks),
                                              self._uses)))

    def _next_ticket(self, training: Training, ticket: Ticket, trained: Trained,
                     start: StartingPoint) -> Ticket:
        level = training.level + 1
        if level in start.source:
            return self._transferred(training.replicate, start.source[level], level,
                                     pruned_after=_measured(trained))
        rng = self._rng(training, "criterion")
        ended = FinishedRound(training.level, ticket.masks, trained.rewound or ticket.weights,
                              trained.weights, _weights(start.taken),
                              lambda: self._at_init.masks(
                                  training.replicate, training.level + 1, ended.theta))

        # Without rewinding, tickets of one-shot pruning have the dense network's trained weights,
        # which are scored again: those began as theta_0.
        began = not self._retraining.rewinds and self._strategy.one_shot
        initial = ended.theta if self._config.against == "theta_k" and not began else \
            self._first_ticket(training.replicate).weights

        def prune_by(scored: Arrays) -> dict[str, Array]:
            # Weights of another level have other masks: the gradient of a weight depends on
            # which weights are pruned.
            under = next((other.masks for other in start.taken.values()
                          if other.weights is scored), ticket.masks)
            return self.rule.next_start(
                initial, ticket.masks, scored, rng, level=training.level,
                provided=self.provided(training.replicate, initial, ticket.masks, scored,
                                       under))[1]
        masks = self._strategy.next_masks(ended, prune_by)
        weights = self._retraining.survivors(ended.theta, self._strategy.scored(ended))
        return Ticket(weights, masks, training.level + 1,
                      self._provenance(training, pruned_after=_measured(trained)))

    def _transferred(self, replicate: int, found: Ticket, level: int,
                     **measured: dict[str, Any]) -> Ticket:
        # A ticket of another run, with an output layer of this network's shape.
        training, prunable = Training(replicate, 0), self.trainer.prunable
        if {*found.masks} != {*prunable}:
            raise LotteryError("Tickets are trained with the weights pruned that their run could "
                               f"prune. Received: source={self._config.source} with masks of "
                               f"{', '.join(sorted(found.masks))!s:.200}; this network's are "
                               f"{', '.join(prunable)!s:.200}.")
        outputs = {weight.name.rpartition("/")[0] for weight in prunable.values() if weight.output}
        weights, masks = found.carried_to(
            self.trainer.initial_weights(self._rng(training, "init")), outputs)
        if isinstance(self._structure, Filters):
            groups = self._structure.groups  # What reads a pruned filter is pruned with it.
            masks = spread_units(groups, kept_units(groups, masks), masks)
        where = {name: found.provenance.get(name) for name in ("dataset", "seed", "fingerprint")}
        return Ticket(weights, masks, level, self._provenance(
            training, source={name: f"{value!s:.50}" for name, value in where.items()}, **measured))

    def provided(self, replicate: int, theta: Arrays, masks: Arrays, scored: Arrays,
                 under: "Arrays | None" = None) -> Provided:
        """Returns what a criterion can need, as functions that compute it; see `criteria.NEEDS`.

        Args:
          replicate: the replicate, over whose training examples it is computed.
          theta: name -> array at theta_k, for every weight.
          masks: weight name -> 0/1 array of the round.
          scored: name -> array of the trained network whose weights are scored.
          under: the masks of that network. Defaults to `masks`.
        """
        def gradient(weights: Arrays, masks: Arrays) -> Arrays:
            # The mean over all training examples, not augmented: it must not depend on random
            # draws.
            return self.trainer.loss_gradient(weights, masks, self._split(replicate)[0])
        of = masks if under is None else under
        return {"gradient": lambda: gradient(scored, of),
                "initial_gradient": lambda: gradient(theta, masks),
                "activation": lambda: self.trainer.activations(
                    scored, of, self._split(replicate)[0])}

    def _split(self, replicate: int) -> tuple[Array, Array]:
        # Training and validation examples: one split for all levels and branches of a replicate,
        # or their early-stop steps could not be compared.
        shuffled = self._rng(Training(replicate, 0), "split").permutation(self._examples)
        held_out = self._config.validation_size
        return np.sort(shuffled[held_out:]), np.sort(shuffled[:held_out])

    def _rng(self, training: Training, purpose: str) -> np.random.Generator:
        # A stream of its own for each purpose: more draws for one never shift another.
        return generator(self._config.seed, purpose, replicate=training.replicate,
                         level=training.level, branch=training.branch,
                         branch_index=training.branch_index)

    def _provenance(self, training: Training, **measured: dict[str, Any]) -> dict[str, Any]:
        return {**self.trainer.provenance, "settings": self._config.identity,
                "fingerprint": self._config.fingerprint, "seed": self._config.seed,
                "replicate": training.replicate, "dataset": self._config.dataset,
                **measured}


def _weights(taken: Mapping[int, Ticket]) -> dict[int, Arrays]:
    return {level: contents.weights for level, contents in taken.items()}


def _measured(trained: Trained) -> dict[str, Any]:
    # Without seconds: a ticket's bytes must not depend on how fast the machine was.
    return {name: value for name, value in trained.result.items()
            if name not in ("seconds", "diverged_at_step")}


def _check_examples(config: Config, examples: int) -> None:
    # The training set must fill a batch: all batches have one shape, for one compilation.
    if config.validation_size + config.batch_size > examples:
        raise LotteryError(
            f"validation_size and batch_size must leave examples to train on: {config.dataset} "
            f"has {examples:,}. Received: validation_size={config.validation_size}, "
            f"batch_size={config.batch_size}.")


def _pruning_rule(config: Config, trainer: NetworkTrainer) -> PruningRule:
    # Rounds that would prune everything are found here, not after days of training.
    shapes, structure = trainer.shapes, parse(config.structure)
    rule = PruningRule.of(
        [*trainer.prunable.values()], shapes, fraction=config.fraction,
        criterion=config.criterion, structures=trainer.structures,
        scope=config.scope, rounds=config.rounds, multiple_of=config.multiple_of,
        provided=validation.PROVIDED, caller="lth run")
    if structure.by_rounds or structure.coupled or not all(rule.fractions.values()):
        return rule  # What keeps a weight, or a filter of every layer, at every level.
    units = {name: structure.units(shape) for name, shape in shapes.items()}
    for level in range(1, config.rounds + 1):
        if not any(number for _, number in rule.kept_at(level, units)):
            raise LotteryError(f"Every level must keep at least one weight. Received: "
                               f"rounds={config.rounds}, fraction={config.fraction}, which prune "
                               f"all weights at level {level}. Use fewer rounds or a smaller "
                               "fraction.")
    return rule
