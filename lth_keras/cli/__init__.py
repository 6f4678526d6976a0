"""The command `lth`: flags in, errors in one line.

Read in this order:

1. `main`: the parser, the commands, the exit codes.
2. `run`, `report`, `analyse`, `export`: a module a command: its flags, and what it calls.
3. `listing`: what `lth presets` and `lth run --help` list.
4. `flags`: values of flags, checked.

Nothing imports this package.  `lth --help` loads no TensorFlow.
"""
