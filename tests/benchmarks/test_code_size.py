"""The code stays short: lines of code in all, and lines of a file."""

import pytest

from benchmarks.code_size import PARTS, code_lines, count

SOURCE = '''"""A module."""

import math  # for pi


def area(radius: float) -> float:
    """Return the area.

    Of a circle.
    """
    text = """not
a docstring"""
    # a comment
    return (
        math.pi
        * radius**2
    ), text
'''


def test_lines_of_code_are_those_without_blanks_comments_and_docstrings():
    assert code_lines(SOURCE) == 8
    assert code_lines("") == code_lines("# nothing\n\n") == 0


@pytest.mark.parametrize(
    ("part", "most"),
    [
        ("core", 1_650),
        ("neuroactivity/wrapping", 655),
        ("neuroactivity/discovery", 1_715),
        ("neuroactivity/looking", 1_090),
        ("adapters", 8_600),
        ("hosts", 1_300),
    ],
)
def test_a_part_is_not_longer_than_it_should_be(part, most):
    files, lines, _ = count(PARTS[part])
    assert files > 4
    assert lines <= most


@pytest.mark.parametrize("part", [part for part in PARTS if part != "tests"])
def test_no_file_has_more_than_300_lines(part):
    assert count(PARTS[part])[2] <= 300
