"""Count lines of code, without blank lines, comments and docstrings: ``python -m benchmarks.code_size``."""

import ast
import io
import tokenize
from collections.abc import Iterable
from pathlib import Path

from neuroactivity.tables import format_table

__all__ = ["PARTS", "code_lines", "count"]

ROOT = Path(__file__).parents[1]
_BESIDES_CORE = ("wrapping", "discovery", "plotting", "testing", "analysis", "looking")
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    r"""Count the lines of a source that hold code.

    Example:
        >>> code_lines("def f(x):\n    'Say what it does.'\n\n    return x  # the same\n")
        2
    """
    strings = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr)]
    docstrings = {
        line
        for node in strings
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {line for t in tokens if t.type not in _NO_CODE for line in range(t.start[0], t.end[0] + 1)}
    return len(code - docstrings)


def count(files: Iterable[Path]) -> tuple[int, int, int]:
    """Return the number of files, their lines of code, and the lines of the longest, code or not."""
    sources = [file.read_text(encoding="utf-8") for file in files]
    longest = max((len(source.splitlines()) for source in sources), default=0)
    return len(sources), sum(map(code_lines, sources)), longest


def _files(folder: str, without: Iterable[str] = ()) -> list[Path]:
    skipped = [ROOT / folder / name for name in without]
    return [file for file in sorted((ROOT / folder).rglob("*.py")) if not any(s in file.parents for s in skipped)]


_ADAPTERS = ("torch", "jax", "tensorflow")
_HOSTS = tuple(f"neuroactivity_{name}/hosts" for name in _ADAPTERS)

PARTS = {
    "core": _files("neuroactivity", _BESIDES_CORE),
    **{f"neuroactivity/{name}": _files(f"neuroactivity/{name}") for name in _BESIDES_CORE},
    "adapters": _files("adapters", _HOSTS),
    **{f"neuroactivity_{name}": _files(f"adapters/neuroactivity_{name}", ("hosts",)) for name in _ADAPTERS},
    "hosts": [file for folder in _HOSTS for file in _files(f"adapters/{folder}")],
    "reference_agents": _files("reference_agents"),
    "benchmarks": _files("benchmarks"),
    "tests": _files("tests"),
}
"""The parts of the repository with their files. The core is the package without what is listed below it, and so
are the adapters without their hosts."""


if __name__ == "__main__":
    rows = [(part, *map(str, count(files))) for part, files in PARTS.items()]
    print("\n".join(format_table(("part", "files", "code lines", "longest file"), rows, words=("part",))))
