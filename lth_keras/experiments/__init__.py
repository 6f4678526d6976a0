"""The papers' experiments: levels x branches x replicates, trained here or elsewhere.

In reading order:

    config        what is asked for: settings, branches, strategies, presets, the trainings
    results       what a workdir holds: records, tables, statistics, verdicts, repair
    training      how one network is trained: from a ticket to the ticket of the next level
    experiment    does all trainings of a configuration in the order in which they can be done
    remaining     what a workdir still lacks, and what of it diverged
    worker        what a process that trains does
    pools         who trains: this process, or processes on this machine
    parcels       how those processes hand each other large values
    clusters      processes of Ray or Dask
    progress      how long a run will take, and how far it is
"""
