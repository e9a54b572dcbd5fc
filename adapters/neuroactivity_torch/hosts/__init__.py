"""Drop-ins for libraries that train PyTorch models: a module for each, named after the library's package.

Where the library has callbacks, the module has an ``ActivityCallback``; where it has none, a function ``attach``. A
module imports its library and no other, and nothing here imports a module.
"""
