"""Runs exported intervals through JAX's XLA client; needs JAX and NumPy, nothing else.

    python -m runner OUT                                compare with TensorFlow, and time
    python -m runner OUT --levels 15 --steps 6000       a whole search of 15 levels

OUT is what `benchmarks.stablehlo.export` wrote, a folder for each network.  This folder runs
alone: a machine that it is copied to needs neither TensorFlow nor lth_keras.
"""
