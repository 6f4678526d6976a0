"""`lth.verify`: checks that pruning and rewinding work on a model.

    build() -> dense, wrapped, rewound, half pruned, stripped -> what differs, and what holds it

Read in this order:

1. `verify`: the function, which makes four checks.
2. `checks`: the checks, each of which trains for a few steps; `subject`: builds the model for them.
3. `trained`: trains a model and records every step; compiles a model like another one.
4. `stripped`: finds what is left of the package in a stripped model and in its file.

`core.verification` compares trainings; `keras2.contents` finds what a model holds.
"""
