"""The arithmetic of lottery tickets: functions of NumPy arrays.

Everything that results depend on and that needs no network is here, where it can be read, and
tested on arrays of three numbers.  Nothing here knows TensorFlow, Keras, files or experiments.

`next_masks` has the core step that every search calls:

    trained weights -> scores -> masks of the next level -> theta_k under these masks

It answers four questions, each in a module of its own:

    how much     `fractions`   the share of the remaining weights that a round prunes
    which        `criteria`    weights -> scores; the lowest scores are pruned
    in what      `structures`  single weights, blocks, m of every n weights, or filters
    where        `pruning`     the exact count, per layer or over all layers

(When a round ends is decided by the engine: `keras2.masking.schedule`.)

Read in this order:

1. `masks`: what a mask is, its density, the overlap of two.
2. `fractions`, `criteria`, `pruning`: magnitude pruning, with its rounding and ties;
   `unit_criteria`: the scores of whole filters.
3. `structures`, a package of its own: pruning in patterns that hardware can use.
4. `next_masks`: the whole step, called by `search.search` and by `lth run`.
5. `invariants`: checks of what must hold after every step and every rewinding.
6. `seeding`: random generators derived from seed, replicate, level, branch and purpose.
7. `verification`: what `lth.verify` compares, step by step, and its report.
8. `mode_connectivity`: the error on the line between two trained networks.
9. `best_level`: what levels are compared by, and which to take.

To add a criterion or a structure, write a function (or class) and `register` it.
"""
