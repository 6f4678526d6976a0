"""Tables, verdicts, pictures and pages of what was trained.  No TensorFlow.

Read in this order:

1. `report`: what `lth report` prints and writes, from workdirs.
2. `tables`: the tables in the terminal.
3. `plots`: the pictures: the summary, learning curves, the paper's figures.
4. `html_page`: the page, one HTML file with its pictures in it.
5. `tensorboard`: the same rows for TensorBoard.
6. `deployment_tables`: what it costs to ship each level.
7. `analyses`: which weights survive, how they move, how stable training is.

Reads `experiments.results`; imports no engine and trains nothing.
"""
