"""Looking into a workdir: one module an analysis, functions of arrays and an `analyse`.

Read in this order:

1. `analysis`: what an analysis reads (`WorkdirReader`) and what it gives (`Analysis`).
2. `survivors`: the distribution of the initial weights that survive.
3. `movement`: how far weights move in training, those kept and those pruned.
4. `connections`: how many connections each unit keeps, against chance.
5. `overlaps`: whether replicates and levels keep the same weights, against chance.
6. `instability`: linear mode connectivity, and which step to rewind to.
7. `output`: table, CSV files and picture of any of them.

To add one: a module with an `analyse(run, levels)` that returns an `Analysis`, and its line in
`cli.analyse.KINDS`.
"""
