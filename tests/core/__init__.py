"""Tests of the core: what is computed, exactly, on the arrays of every library."""
