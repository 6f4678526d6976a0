"""Networks, data sets and the compiled training loop of `lth run`, on tf_keras.

One round in the order of its data: `round_runner` takes a ticket (or a control made of it), has it
trained by `trainer`, prunes it by `core.next_masks` and gives the next level's ticket.

Read in this order:

1. `datasets`: digits, MNIST, CIFAR-10, split into training, validation and test examples.
2. `networks`, `models`: the papers' architectures by name, built, initialised and masked.
3. `optimizers`: the optimizer and its learning rate over a training.
4. `program`: many steps as one compiled program; `data_feed` brings it the examples, `augmentation`
   changes them.
5. `evaluator`: test accuracy of given weights.
6. `trainer`: one training: intervals of steps, early stopping found afterwards, divergence.
7. `round_runner`: one round, from ticket to ticket.

Imports `keras2`, `core`, `files`, and of `experiments` only `config` and `results`.
"""
