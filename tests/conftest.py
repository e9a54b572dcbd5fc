"""Profiles of the property tests: ``ci`` by default, ``HYPOTHESIS_PROFILE=long`` for a long run."""

import os

from hypothesis import HealthCheck, settings

# The arrays are small; the time that one example takes says nothing.
COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", max_examples=60, derandomize=True, **COMMON)
settings.register_profile("long", max_examples=1000, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
