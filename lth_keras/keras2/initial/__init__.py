"""Scores at initialisation of tf_keras models: `tf_keras_scored`, for `lth.prune_at_init`."""
