"""What a Python program calls that draws on every other package; the command does the same.

Read in this order:

1. `run`: `lth.run`, an experiment from Python, and what it gives back.
"""
