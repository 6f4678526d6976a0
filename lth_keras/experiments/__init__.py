"""Runs the papers' experiments: trains levels x branches x replicates, and stores the results.

A configuration (`config`) determines the trainings.  A store (`results`) knows which of them are
finished in the workdir; the others are trained (`training`), in this process or in workers, and
recorded.  Recorded trainings are not repeated, so resuming is the same as running.

Read in this order:

1. `config`: settings, presets, branches, strategies, and the trainings that follow from them.
2. `results`: the workdir: records of trainings, their repair, statistics and verdicts.
3. `training`: networks, data sets, and one round from ticket to ticket; the compiled loops of the
   two engines are in `training_keras2` and `training_keras3`.
4. `remaining`: finds the trainings that a workdir does not have yet.
5. `experiment`: `Experiment.run`, the loop that submits trainings and stores their results;
   `source`: the run whose tickets are trained on another data set.
6. `pools`, `clusters`: run trainings in this process, in worker processes, on Ray or on Dask.  A
   worker runs `worker`; `parcels` sends values between processes, `devices` finds accelerators.
7. `progress`: the progress bar and the estimated time, in a terminal or a notebook; `row_hooks`:
   functions of a user's that get each finished row, such as loggers.
8. `run_experiment`: all of this together, for `lth run` and for lth.run.

The process that starts a run loads neither TensorFlow nor Keras; its workers do.
"""
