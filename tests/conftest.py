"""What all tests share: a quiet TensorFlow, and generated cases that repeat."""

import os

from hypothesis import settings

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
