"""Exports trained networks to Keras, SavedModel, TF Lite and ONNX files, and checks every file.

    trained network -> compaction -> formats -> measuring -> checks -> manifest and model card

Read in this order:

1. `export`: `lth.export`, from a model in memory to a folder of checked files.
2. `models`: what is asked of a model, answered alike for tf_keras and for Keras 3.
3. `comparison`: the data that files are compared on, by the names of inputs and outputs, and the
   measure that fits the loss of each output.
4. `compaction`: removes units without connections; the outputs stay the same (`lth.compact`).
5. `conversion`: the registry of formats, and what writes their files.
6. `measuring`: loads each file in a process of its own (`measuring_process`, in one of the
   `runtimes`) and returns its outputs, latency and memory, or that the runtime crashed.
7. `checks`: compares a file's outputs with Keras' and decides whether the file is shipped;
   `bench` does this with each format, and names what to use instead of one that is refused.
8. `manifest`: the result of an export as data; `model_card`: the same as a README.md, with a
   `card_program` that uses the file.
9. `trained_networks`, `run_export`: what `lth export` does: loads networks from a workdir or a
   ticket, and exports one level or all.

To add a format, write a converter and call `conversion.formats.register`.
"""
