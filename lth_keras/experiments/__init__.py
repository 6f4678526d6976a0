"""The papers' experiments: levels x branches x replicates, trained, recorded, resumed.

What `lth run` does.  A configuration (`config`) names the trainings; a store (`results`) knows
which are done; the others are trained (`training`), in this process or in workers, and recorded.
What is recorded is not trained again: resuming is the same as running.

Read in this order:

1. `config`: settings, presets, branches, strategies, and which trainings they come to.
2. `results`: the workdir: records of trainings, checked, repaired, summarised and judged.
3. `training`: networks, data sets, the compiled loop, and one round from ticket to ticket.
4. `remaining`: what a configuration asks for that a store does not have yet.
5. `experiment`: `Experiment.run`, the loop that hands out trainings and keeps what comes back.
6. `pools`, `clusters`: who trains: this process, worker processes here, Ray, Dask.  A worker runs
   `worker`; what is sent between processes travels as `parcels`.
7. `progress`: the bar and the estimate, in a terminal or a notebook.
8. `run_experiment`: all of it put together, for `lth run` and for lth.run.

The process that starts a run loads no TensorFlow; its workers do.
"""
