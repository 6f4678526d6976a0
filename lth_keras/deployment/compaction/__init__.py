"""`lth.compact`: makes a smaller network with the same predictions from a pruned one.

A unit whose incoming weights are all pruned has a constant value, and a unit that no other reads
has no effect: both can be removed without changing the predictions.

Read in this order:

1. `channels`: finds which channels are constant, needed or not needed, on arrays only.
2. `layer_parts`: makes the smaller layers, which gather features where one reads only a part of
   its input.
3. `places`: where what is left of a weight lay before, for tickets; `carried_optimizer`: for slots.
4. `compact`: all of it, with sentences that say what could not be removed and why.

What each kind of layer does to channels is read by `graph`, which builds the model too.
"""
