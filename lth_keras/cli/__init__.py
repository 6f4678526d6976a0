"""The command `lth`: parses flags, calls the package, and prints errors on one line.

Read in this order:

1. `main`: the parser, the commands and the exit codes; `output`: the console that they print to.
2. `run`, `report`, `analyse`, `export`, `data`, `presets`, `completion`: a module for each command,
   with its flags.
3. `network_analyses`: the analyses with flags of their own, for `analyse`.
4. `flags`: converts and checks the values of flags.

No other package imports this one.  A command's module loads at its top what its flags and its help
need, and in `run` what it works with, so that a page of help takes no longer than a page should.
"""
