"""The arithmetic of lottery tickets: arrays in, arrays out, in NumPy alone.

Everything that a result depends on and that needs no network is here, so that it can be read, and
tested on arrays of three numbers.  Nothing here knows TensorFlow, Keras, files or experiments.

The core step of every search stands once, in `next_masks`:

    trained weights -> scores -> masks of the next level -> theta_k under these masks

It puts together four questions, each with a place of its own:

    how much     `fractions`   the share of the remaining weights that a round prunes
    which        `criteria`    weights -> scores; the lowest scores are pruned
    in what      `structures`  single weights, blocks, or m of every n weights
    where        `pruning`     the exact count, per layer or over all layers

(When a round ends is the business of the engine: `keras2.masking.schedule`.)

Read in this order:

1. `masks`: what a mask is, its density, the overlap of two.
2. `fractions`, `criteria`, `pruning`: magnitude pruning, with its rounding and ties.
3. `structures`, a package of its own: pruning in patterns that hardware can use.
4. `next_masks`: the step as a whole, called by `keras2.search` and by `lth run`.
5. `controls`: what a ticket is compared with, made from a ticket (re-initialised, random masks).
6. `invariants`: what must hold after every step and every rewinding, and raises if it does not.
7. `seeding`: the random generator of every purpose, derived from seed, replicate, level and branch.
8. `mode_connectivity`: the error on the line between two trained networks.

To add a criterion, a control or a structure: one function (or class) and its `register`.
"""
