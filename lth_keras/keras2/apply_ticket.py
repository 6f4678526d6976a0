"""`lth.Ticket.apply` for tf_keras models."""

import dataclasses
from typing import Any

from lth_keras.errors import TicketError
from lth_keras.files.ticket import check_fits, Ticket
from lth_keras.keras2 import rewinding
from lth_keras.keras2.masking.weight_names import (
    check_keras2,
    is_built,
    is_graph,
    masked,
    named_variables,
    named_weights,
    wrappers,
)
from lth_keras.keras2.masking.wrap import wrap_named


def apply_ticket(ticket: Ticket, model: Any) -> Any:
    """Assigns a ticket's weights and masks to a model; see `Ticket.apply`.

    Raises:
      TicketError: if weights differ in name, shape or in being prunable. The weights of the model
        are not changed then.
    """
    check_keras2(model)
    if not is_built(model):
        raise TicketError("A ticket needs a model that is built. "
                          f"Received: {model.name!r}, which has no weights yet. Start it with "
                          "keras.layers.Input(shape), or call model.build(input_shape).")
    ticket = _without_training(ticket, model)
    check_fits(ticket, {name: tuple(variable.shape)
                        for name, variable in named_weights(model).items()})
    # A model without wrappers gets them for exactly the weights that the ticket prunes.
    if not wrappers(model):
        model = wrap_named(model, ticket.masks.keys(),
                           ticket.in_filters and is_graph(model))
    prunable = set(masked(model))
    if prunable != set(ticket.masks):
        raise TicketError(
            "The model and the ticket must have the same prunable weights. Received: prunable in "
            f"the ticket only {sorted(set(ticket.masks) - prunable)}, in the model only "
            f"{sorted(prunable - set(ticket.masks))}.")
    rewinding.assign(model, ticket.weights, ticket.masks)
    return model


def _without_training(ticket: Ticket, model: Any) -> Ticket:
    """Leaves out what a model holds for its training alone, which older tickets had too."""
    network = named_weights(model)
    left_out = named_variables(model).keys() - network.keys() - ticket.masks.keys()
    return dataclasses.replace(ticket, weights={
        name: value for name, value in ticket.weights.items() if name not in left_out})
