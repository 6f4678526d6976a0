"""Exports trained networks to Keras, SavedModel and TF Lite files, and checks every file.

    trained network -> compaction -> formats -> measuring -> checks -> manifest and model card

Read in this order:

1. `export`: `lth.export`, from a model in memory to a folder of checked files.
2. `compaction`: removes units without connections; the outputs stay the same (`lth.compact`).
3. `formats`: the registry of formats; `converters` writes the files.
4. `measuring`: loads each file in a process of its own (`measuring_process`) and returns its
   outputs, latency and memory, or that the runtime crashed.
5. `checks`: compares a file's outputs with Keras' and decides whether the file is shipped.
6. `manifest`: the result of an export as data; `model_card`: the same as a README.md.
7. `trained_networks`, `run_export`: what `lth export` does: loads networks from a workdir or a
   ticket, and exports one level or all.

To add a format, write a converter and call `formats.register`.
"""
