"""Structures: which weights are pruned together, so that hardware can use the sparsity.

    none        any weight
    2:4         of every 4 consecutive inputs of an output, 2 are pruned
    block_1x4   blocks of 1 input by 4 outputs are kept or pruned as a whole
    filters     filters and units, with their biases and all weights that read them

Pruning, controls, wrappers and `lth run` see a structure only through the methods of one class.
Read in this order:

1. `structure`: that class, `Structure`; checks that a search can prune in the structures chosen.
2. `single_weights`: the structure "none".
3. `tfmot_arguments`: checks of the arguments that tfmot has for structures.
4. `blocks`: rectangles of inputs and outputs.
5. `m_by_n`: m of every n consecutive inputs, as sparse tensor cores need them.
6. `coupled`: units of several weights, and where their numbers lie.
7. `filters`: the structure of such units.
8. `words`: finds a structure by its word, such as "2:4", or by tfmot's arguments.

To add one, subclass `Structure` in a module here and register it in `words`; the example of
`words.register` is a whole structure.
"""
