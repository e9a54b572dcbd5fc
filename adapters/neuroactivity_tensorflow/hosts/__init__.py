"""Where TensorFlow models are trained already: a module for each host, named after the host's package.

A module imports its host, and is imported by nothing else: ``from neuroactivity_tensorflow.hosts.keras import
ActivityCallback``.
"""
