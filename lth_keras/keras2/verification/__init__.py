"""`lth.verify`: does pruning and rewinding work on this model?

    build() -> dense, wrapped, rewound, half pruned, stripped -> what differs, and what holds it

Read in this order:

1. `verify`: the four checks, each of which trains for a few steps.
2. `checks`: what each of them does; `subject`: the model, built as often as they need it.
3. `trained`: one training, recorded step by step, and a model compiled as another was.
4. `stripped`: what is left of the package in a model without wrappers, and in its file.

What is compared, and how, is in `core.verification`; what a model holds in `keras2.contents`.
"""
