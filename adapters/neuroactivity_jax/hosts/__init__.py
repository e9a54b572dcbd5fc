"""Where JAX agents live already: train states of any library, and a module for each host that has callbacks.

:func:`attach_state` is exported by :mod:`neuroactivity_jax` and needs no host. Any other module is named after the
host's package, imports it, and is imported by nothing else: ``from neuroactivity_jax.hosts.sbx import attach``.
"""
