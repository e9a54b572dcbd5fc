"""Agents in TensorFlow, with Keras 3 on its TensorFlow backend."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # read when Keras is first imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only, not how TensorFlow was built
