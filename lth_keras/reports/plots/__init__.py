"""Pictures in the manner of Frankle & Carbin 2019, with matplotlib: axes in, axes out.

Read in this order:

1. `styles`: the colour, marker and line of every branch, run and level.
2. `drawing`: lines against density, learning curves, axes, titles; PNG.
3. `panels`: panels of several runs side by side; the summary and the learning curves of a run.
4. `paper_figures`: the paper's figures 1 to 8 by number; `register` adds one.
5. `analysis_figures`: the pictures of `lth analyse`.
"""
