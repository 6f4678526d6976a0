"""Looking into a workdir: one module an analysis, functions of arrays and an `analyse`.

Read in this order:

1. `analysis`: what an analysis reads (`WorkdirReader`) and what it gives (`Analysis`).
2. `fit_reader`: the workdirs of searches in `fit`, read for the same analyses.
3. `survivors`: the distribution of the initial weights that survive.
4. `movement`: how far weights move in training, those kept and those pruned.
5. `connections`: how many connections each unit keeps, against chance.
6. `overlaps`: whether replicates and levels keep the same weights, against chance.
7. `instability`: linear mode connectivity, and which step to rewind to.
8. `output`: table, CSV files and picture of any of them.

To add one: a module with an `analyse(run, levels)` that returns an `Analysis`, and its line in
`cli.analyse.KINDS`.
"""
