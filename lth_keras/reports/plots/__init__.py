"""Figures in the style of Frankle & Carbin 2019, with matplotlib.

Read in this order:

1. `styles`: the colour, marker and line of every branch, run and level.
2. `drawing`: functions that draw into matplotlib axes: lines against density, learning curves,
   axes, titles; and `png`, `save`.
3. `panels`: figures of several panels; the summary and the learning curves of a run.
4. `paper_figures`: the paper's figures 1 to 8 by number; `register` adds one.
5. `analysis_figures`: the figures of `lth analyse`; `early_bird_figure`: that of `lth.EarlyBird`.
"""
