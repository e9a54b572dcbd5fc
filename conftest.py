"""Run the code of the documentation as tests, and print what tests have counted at the end.

All keep to one thread, since small networks gain nothing from two.
"""

import gc
import os
import re
import signal
import sys
from collections import Counter

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

os.environ.setdefault("OMP_NUM_THREADS", "1")

if os.environ.get("HYPOTHESIS_PROFILE") != "long":  # what tests compile, they run a few times only
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

collect_ignore_glob = [
    "*/conftest.py",  # nothing to run in them, and several of one name
    "adapters/neuroactivity_torch/hosts/*",  # each imports its host; tests/hosts runs them where it is installed
    "adapters/neuroactivity_jax/hosts/sbx*",
    "tests/mutation/*",  # a command, which tests/test_mutants.py runs
]
pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    exclude="docs/hosts.md",  # tests/hosts runs its code
).pytest()


def pytest_configure():
    """Have Ctrl-C interrupt, as some tests need: a shell has it ignored by what runs in its background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Keep the frameworks, millions of objects, from being searched for garbage again and again."""
    if (tensorflow := sys.modules.get("tensorflow")) and os.environ.get("HYPOTHESIS_PROFILE") != "long":
        tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # graphs run a few times
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Note what a test stands for: the marker ``counts(faults=1, ranks=2)``, and the examples of a property."""
    if call.when == "call":
        examples = re.findall(r"(\d+) passing", getattr(item, "hypothesis_statistics", ""))
        counts = [mark.kwargs for mark in item.iter_markers("counts")] + [{"examples": int(n)} for n in examples]
        item.user_properties += [("count", list(pair)) for count in counts for pair in count.items()]


def pytest_terminal_summary(terminalreporter):
    """Print the sums of the counts, and the property ``summary`` of tests that recorded one."""
    totals = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(value)
            elif name == "count":
                totals[value[0]] += value[1]
    if totals:
        terminalreporter.write_line("passed: " + ", ".join(f"{totals[kind]:,} {kind}" for kind in sorted(totals)))
