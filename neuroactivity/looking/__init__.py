"""Looking at runs: records of reports in a file, a page of them, and a table in the terminal.

:class:`JsonLines` is an ``on_report=`` that records a run. ``neuroactivity plot`` and ``neuroactivity inspect`` show
what was recorded. Nothing here needs an array library.
"""

from neuroactivity.looking.page import build_page
from neuroactivity.looking.reading import read_run
from neuroactivity.looking.text import RecordsError
from neuroactivity.looking.writing import JsonLines, record

__all__ = ["JsonLines", "RecordsError", "build_page", "read_run", "record"]
