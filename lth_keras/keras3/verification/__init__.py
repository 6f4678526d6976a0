"""What `lth.verify` needs of a Keras 3 model; see `search.verification`.

Read in this order:

1. `plain_subject`: builds the model without masks and with them, and says what the checks ask.
2. `recorded`: trains a model on the same batches and seeds every time, and records every step.
3. `contents`: every optimizer and variable that a model holds, to name what was not rewound.
"""
