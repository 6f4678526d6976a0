"""The command `lth`: parses flags, calls the package, and prints errors on one line.

Read in this order:

1. `main`: the parser, the commands and the exit codes.
2. `run`, `report`, `analyse`, `export`, `data`: one module for each command, with its flags.
3. `network_analyses`: the analyses that evaluate networks, for `analyse`.
4. `listing`: the lists that `lth presets` and `lth run --help` print.
5. `flags`: converts and checks the values of flags.

No other package imports this one.  `lth --help` does not load TensorFlow, to stay fast.
"""
