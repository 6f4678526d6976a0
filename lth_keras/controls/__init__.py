"""Controls: networks with as few weights as a ticket, which it is compared with.

Read in this order:

1. `control`: what a control is, how one is added, and for how many steps it trains.
2. `changed_weights`: the ticket's masks with weights that are drawn anew, shuffled or changed.
3. `other_masks`: random masks, and masks by other scores.
4. `sparse_trainings`: masks that are found while a network trains.
5. `known`: all of them by name.
"""
