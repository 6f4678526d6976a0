"""Reports results: tables, verdicts, figures, the HTML page, and analyses.  No TensorFlow.

Read in this order:

1. `report`: what `lth report` prints and writes.
2. `tables`: the tables in the terminal; `cost_tables`: what networks without filters cost.
3. `plots`: the figures: the summary, learning curves, the paper's figures.
4. `html_page`: report.html, one file that contains its figures.
5. `tensorboard`: the same results for TensorBoard.
6. `deployment_tables`: accuracy, size and latency of exported files.
7. `analyses`: which weights survive, how they move, how stable training is.

This package reads `experiments.results`; it imports no Keras and trains nothing.
"""
