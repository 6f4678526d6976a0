"""The settings of an experiment, and the list of trainings that follows from them.  No TensorFlow.

Read in this order:

1. `config`: `Config`, frozen; its fingerprint names the workdir and leaves out defaults.
2. `branches`: what is trained at a level, how often: "reinit:3@3/5/7".
3. `strategies`: which weights are scored for the next masks, and what survivors are reset to:
   iterative, one-shot, continued; weight rewinding, learning-rate rewinding, fine-tuning;
   `at_init`: scores before training; `transfer`: the tickets of another run.
4. `margins`: how much worse than the dense network still counts as good, with its sources.
5. `validation`: which settings go together, with errors that say what to change.
6. `trainings`: every `Training` of a configuration, in order, and what each needs first.
7. `presets`: the papers' configurations by name; `own`: those of a user's own data and network,
   as a file and a function.
"""
