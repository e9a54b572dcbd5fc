"""Environments: from states or from pixels, with optional changes of the ground friction."""
