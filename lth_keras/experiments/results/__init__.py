"""A run's workdir: what is kept of trainings, how it is checked, and what it says.  No TensorFlow.

    replicate_0/level_03/ticket.safetensors            the ticket that level 3 starts from
    replicate_0/level_03/reinit_0/result.json          the record of a training
    replicate_0/level_03/reinit_0/curve.csv            its learning curve
    results.csv                                        a row a training

Read in this order:

1. `outcome`: what a training starts from and what it leaves behind.
2. `record`: the record of a training: its row, and the digests of its files.
3. `paths`: where things lie, and how they are read.
4. `store`: what finishes a training, and finds those that are finished.
5. `repair`: what is damaged, and is taken away to be trained again.
6. `fits`: a search in `fit`, read from its workdir or from memory into the same columns.
7. `runs`: one or several workdirs, read as one run.
8. `statistics`: means, paired differences, intervals, replicates needed.
9. `significance`: one-sided tests, equivalence by two of them, Holm's correction for many.
10. `evidence`: what the replicates say of each condition that a winning ticket meets.
11. `verdicts`: whether a run has a winning ticket, by stated rules and margins.
"""
