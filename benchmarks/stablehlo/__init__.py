"""The compiled interval on a machine that has JAX and not TensorFlow."""
