"""Run the code of the documentation as tests, and print what tests have counted at the end.

All keep to one thread, since small networks gain nothing from two.
"""

import os

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

os.environ.setdefault("OMP_NUM_THREADS", "1")

collect_ignore_glob = [
    "*/conftest.py",  # nothing to run in them, and several of one name
    "adapters/neuroactivity_torch/hosts/*",  # each imports its host; tests/hosts runs them where it is installed
    "adapters/neuroactivity_jax/hosts/sbx*",
]
pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    exclude="docs/hosts.md",  # tests/hosts runs its code
).pytest()


def pytest_terminal_summary(terminalreporter):
    """Print the property ``summary`` of tests that recorded one, whichever process they ran in."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(text)
