"""Trained networks as files that are checked: Keras, SavedModel, TF Lite.

    trained network -> compaction -> formats -> measuring -> checks -> manifest and model card

Read in this order:

1. `export`: `lth.export`, the way of a model from memory to a folder of checked files.
2. `compaction`: units that have no connection left are removed, exactly (`lth.compact`).
3. `formats`: the formats by name; `converters` writes TF Lite files, with values shared or in
   8 bits.
4. `measuring`: each file is loaded in a process of its own (`measuring_process`), which gives its
   outputs, latency and memory; a runtime that crashes is a result.
5. `checks`: how a file's outputs compare with Keras', and what that means.
6. `manifest`: what came of an export, as data; `model_card`: the same for people.
7. `trained_networks`, `run_export`: `lth export`: networks from a workdir or a ticket, and the
   survey of all levels.

To add a format: a function and `formats.register`.
"""
