"""Equivalence checks across frameworks, for the tests of people who port agents."""

from neuroactivity.testing.equivalence import assert_same_activity

__all__ = ["assert_same_activity"]
