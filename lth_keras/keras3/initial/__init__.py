"""Scores at initialisation of Keras 3 models: `keras3_scored`, for `lth.prune_at_init`.

Derivatives are taken by each backend in its own way: `second_derivatives`.
"""
