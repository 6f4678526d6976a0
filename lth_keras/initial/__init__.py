"""Scores at initialisation: tickets of untrained models, `lth.prune_at_init`.

    model -> scores of its weights as they are -> exact counts -> masks -> Ticket

Read in this order:

1. `prune_at_init`: `lth.prune_at_init`; its methods and the loop that scores and prunes.
2. `distributions`: how many weights each layer keeps, and how many each iteration leaves.
3. `scored_model`: what is needed of a model: gradients, and products with second derivatives.
4. `linear_network`: the network of |weights| that SynFlow scores; `synflow`: its scores, safe from
   numbers that are too large or too small.

This package imports `core`, `files`, `graph` and `search`, and no Keras; the derivatives are taken
by `keras2.initial` and `keras3.initial`.
"""
