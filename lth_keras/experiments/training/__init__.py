"""Networks, data sets and the compiled training loop of `lth run`, on tf_keras.

In one round, `round_runner` takes a ticket (or a control made from it), `trainer` trains it, and
`core.next_masks` prunes it, which makes the ticket of the next level.

Read in this order:

1. `datasets`: digits, MNIST and CIFAR-10, with training and test examples.
2. `networks`, `models`: the papers' networks by name; builds, compiles and initialises them.
3. `optimizers`: the optimizer and its learning-rate schedule.
4. `program`: many steps as one compiled program; `data_feed` feeds it examples, `augmentation`
   changes them.
5. `evaluator`: the test error of given weights.
6. `trainer`: one training, with early stopping found afterwards, and divergence.
7. `round_runner`: one round, from ticket to ticket.

This package imports `keras2`, `core`, `files`, and of `experiments` only `config` and `results`.
"""
