"""Run the code of the documentation as tests, and keep to one thread, since small networks gain nothing from two."""

import os

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

os.environ.setdefault("OMP_NUM_THREADS", "1")

collect_ignore_glob = ["*/conftest.py"]  # nothing to run in them, and several of one name
pytest_collect_file = Sybil(parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md"]).pytest()
