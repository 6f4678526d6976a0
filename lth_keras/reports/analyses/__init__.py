"""Analyses of a workdir: one module for each, with functions of arrays and an `analyse`.

Read in this order:

1. `analysis`: what an analysis reads (`WorkdirReader`) and returns (`Analysis`).
2. `fit_reader`: reads the workdirs of searches in `fit` for the same analyses.
3. `survivors`: the distribution of the initial weights that survive.
4. `movement`: how far kept and pruned weights move in training.
5. `connections`: how many connections each unit keeps, compared with chance.
6. `overlaps`: whether replicates and levels keep the same weights, compared with chance.
7. `signs`: how many survivors change their sign in training.
8. `differences`: test accuracies of a level's networks, with a verdict on each difference.
9. `widths`: what is left out of a table where the terminal is narrow.
10. `output`: prints the table and writes CSV files and the figure.

In `networks` are those that evaluate networks on the test set.

To add an analysis, write a module with a function `analyse(run, levels)` that returns an
`Analysis`, and add it to `cli.analyse.KINDS`.
"""
