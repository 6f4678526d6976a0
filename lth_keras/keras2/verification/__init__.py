"""What `lth.verify` needs of a tf_keras model; see `search.verification`.

Read in this order:

1. `wrapped_subject`: builds the model without wrappers and with them, and says what the checks ask.
2. `trained`: trains a model and records every step; compiles a model like another one.
3. `stripped`: finds what is left of the package in a stripped model and in its file.
"""
