"""`python -m lth_keras`: the command `lth`."""

from lth_keras.cli.main import main

main()
