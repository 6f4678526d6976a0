"""What the trainings of `lth run` are, whichever Keras trains them.

In one round, `round_runner` takes a ticket (or a control made from it), a `network_trainer` trains
it, and `core.next_masks` prunes it, which makes the ticket of the next level.

Read in this order:

1. `datasets`: digits, MNIST and CIFAR-10, with training and test examples; `prepared_data`: a data
   set in one file.
2. `networks`, `deep_networks`, `network_layers`, `models`: the papers' networks by name; builds,
   compiles and initialises them.
3. `spec`: what one training depends on, its batches, and what it leaves.
4. `network_trainer`: what a round needs of an engine: `experiments.training_keras2`,
   `experiments.training_keras3`; and how fast a process trains.
5. `smaller_trainer`: trains networks without their pruned filters.
6. `at_init_masks`: masks by scores of the weights before training.
7. `round_runner`: one round, from ticket to ticket.

This package imports `core`, `files`, `search`, `initial`, `sparse_training`, and of `experiments`
only `config` and `results`.
"""
