"""Analyses that evaluate networks on the test set: they are given what does it.

Read in this order:

1. `network`: what an analysis needs of a run's network: its pruning rule, and its accuracy.
2. `instability`: linear mode connectivity, and which step to rewind to.
3. `sensitivity`: accuracy against the pruned share of one layer, each layer alone.
4. `untrained`: accuracy of tickets before training, and of masks by other criteria.
"""
