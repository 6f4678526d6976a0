"""What an experiment is, written down: nothing here trains or reads a workdir.

In reading order:

    config        the settings, frozen and checked, and their fingerprint
    validation    what the settings must be, and how text becomes one
    branches      what is trained at each level beside the ticket
    trainings     every training of a configuration, and what each needs first
    presets       settings under a name: the papers' experiments
"""
