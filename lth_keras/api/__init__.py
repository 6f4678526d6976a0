"""What a Python program calls that draws on every other package; the command does the same.

Read in this order:

1. `run`: `lth.run`, an experiment from Python, and what it gives back.
2. `plot`: `lth.plot`, `lth.plot_curves` and `lth.paper_figure`, the pictures of a report.
3. `convert`: `lth.convert`, a tf_keras model as the equal Keras 3 model; `layer_configs`: the
   options of one layer; `call_modes`: calls that say in which mode they are.
4. `file_costs`: bytes and latency of a network's file without its pruned filters, by which a search
   in `fit` can end; `smaller_training`: a level trained without them (`lth.Search.smaller`).
"""
