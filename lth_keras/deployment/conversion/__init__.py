"""Writes a trained model to a file of a format, in this process or in one with TensorFlow.

Read in this order:

1. `formats`: the registry of formats, and `convert`.
2. `converters`: what TensorFlow writes: SavedModel and TF Lite; `onnx_file`: ONNX.
3. `tensorflow_process`: a model of the JAX or torch backend, converted in a process of its own
   (`converting_process`), which loads it with the TensorFlow backend.

To add a format, write a converter and call `formats.register`.
"""
