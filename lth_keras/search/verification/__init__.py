"""`lth.verify`: checks that pruning and rewinding work on a model, of either Keras.

    build() -> dense, masked, rewound, half pruned, saved -> what differs, and what holds it

Read in this order:

1. `verify`: the function, which makes four checks.
2. `checks`: the checks, each of which trains for a few steps.
3. `subject`: builds, trains and describes the model that is checked; each Keras has its own
   (`keras2.verification`, `keras3.verification`).

`core.verification` compares trainings; `search.contents` finds what a model holds.
"""
