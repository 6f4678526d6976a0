"""What a model of tf_keras shows of itself to those that wrap, search and strip it.

1. `model_calls`: what its call touches, and so which variables are its network's and which are held
   for its training alone.
2. `pruners`: whether anything prunes a wrapped model.
3. `tfmot_parts`: what is used of tfmot, whose import would change `tf.keras` for the whole program.
"""
