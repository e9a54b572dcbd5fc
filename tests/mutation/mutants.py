"""The mutants of a file: small faults that cosmic-ray's operators put in, one at a time."""

import ast
import difflib
import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build/mutants"

SWAPS = {
    "Binary": "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_FloorDiv Pow_Mul RShift_LShift BitAnd_BitOr "
    "BitOr_BitAnd",
    "Comparison": "Eq_NotEq NotEq_Eq Is_IsNot IsNot_Is Lt_LtE Lt_Gt LtE_Lt LtE_GtE Gt_GtE Gt_Lt GtE_Gt GtE_LtE",
    "Unary": "USub_UAdd Delete_USub Delete_Not Delete_Invert",
}
"""One or two replacements of an operator. The rest, such as a shift for a product, fail at once and prove nothing."""

OPERATORS = [
    name
    for name in operator_names()
    if not (kind := name.partition("/Replace")[2].partition("Operator_"))[1] or kind[2] in SWAPS[kind[0]].split()
    if "/Variable" not in name  # which want to be told a variable
]


@dataclass(frozen=True)
class Mutant:
    """One fault in one file, with the lines of the statement that it changes."""

    file: str
    operator: str
    occurrence: int
    line: int
    column: int
    first: int
    last: int
    at_import: bool

    @cache  # noqa: B019
    def source(self) -> str:
        """The file's text with the fault in it."""
        text: str = mutate_code((ROOT / self.file).read_text(encoding="utf-8"), _made(self.operator), self.occurrence)
        return text

    @cache  # noqa: B019
    def change(self) -> str:
        """The lines that differ, such as ``- a < b`` and ``+ a <= b``."""
        before = (ROOT / self.file).read_text(encoding="utf-8").splitlines()
        lines = difflib.unified_diff(before, self.source().splitlines(), n=0, lineterm="")
        return "\n".join(f"{line[0]} {line[1:].strip()}" for line in list(lines)[2:] if line[0] in "+-")

    @property
    def key(self) -> str:
        """What no other mutant has, nor this one once the file is another."""
        return f"{self.file} {_digest(self.file)} {self.operator} {self.occurrence}"


@cache
def _digest(file: str) -> str:
    return hashlib.sha256((ROOT / file).read_bytes()).hexdigest()[:8]


@cache
def _made(operator: str) -> Any:
    return get_operator(operator)()


def mutants_of(file: str) -> Iterator[Mutant]:
    """Every mutant of a file, but for those of type hints, of stars among parameters and arguments, and of the check
    ``zip(..., strict=True)``, which nothing that could be tested sets off.
    """
    text = (ROOT / file).read_text(encoding="utf-8")
    lines, places = text.splitlines(), _Places(ast.parse(text))
    nodes = list(ast_nodes(get_ast(text)))
    for operator in OPERATORS:
        positions = (position for node in nodes for position in _made(operator).mutation_positions(node))
        for occurrence, ((line, column), _) in enumerate(positions):
            strict = lines[line - 1][:column].endswith("strict=")
            term = "Binary" not in operator or places.in_a_term(line, column)
            if term and not strict and not places.in_a_hint(line, column):
                yield Mutant(file, operator, occurrence, line, column, *places.statement(line, column))


class _Places:
    """What lies where in a file."""

    def __init__(self, tree: ast.Module) -> None:
        nodes = list(ast.walk(tree))
        hints = [getattr(node, name, None) for node in nodes for name in ("annotation", "returns")]
        self._hints = [hint for hint in hints if hint is not None]
        self._terms = [node for node in nodes if isinstance(node, ast.BinOp | ast.AugAssign)]
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
        self._bodies = [(function.body[0].lineno, function.end_lineno or 0) for function in functions]
        self._statements = [node for node in nodes if isinstance(node, ast.stmt)]

    def in_a_hint(self, line: int, column: int) -> bool:
        return any(_holds(hint, line, column) for hint in self._hints)

    def in_a_term(self, line: int, column: int) -> bool:
        return any(_holds(term, line, column) for term in self._terms)

    def statement(self, line: int, column: int) -> tuple[int, int, bool]:
        """The lines of the innermost statement without its body, and whether it runs at import."""
        inside = [statement for statement in self._statements if _holds(statement, line, column)]
        first = max((statement.lineno for statement in inside), default=line)
        at_import = not any(start <= line <= end for start, end in self._bodies)
        return min(first, line), line, at_import


def _holds(node: Any, line: int, column: int) -> bool:
    return (node.lineno, node.col_offset) <= (line, column) < (node.end_lineno, node.end_col_offset)


def equivalents() -> dict[tuple[str, str], str]:
    """Why a mutant that lives does what the original does, by file and change."""
    with (Path(__file__).parent / "equivalent.toml").open("rb") as file:
        return {
            (path, f"- {entry['before']}\n+ {entry['after']}"): entry["why"]
            for path, entries in tomllib.load(file).items()
            for entry in entries
        }
