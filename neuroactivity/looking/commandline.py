"""``neuroactivity`` on the command line: a page of runs, and the table of a file."""

import argparse
from collections.abc import Sequence
from os.path import realpath
from pathlib import Path
from typing import NoReturn

import neuroactivity
from neuroactivity.escaping import printable
from neuroactivity.looking.inspecting import inspect
from neuroactivity.looking.page import build_page
from neuroactivity.looking.reading import read_run
from neuroactivity.looking.telling import tell
from neuroactivity.looking.text import RecordsError
from neuroactivity.looking.writing import write_text


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, through :func:`neuroactivity.looking.telling.tell`."""

    def error(self, message: str) -> NoReturn:
        """Raise a ``RecordsError``."""
        raise RecordsError(f"{message}; {self.prog} --help says more")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Arguments; those of the process by default.

    Returns:
        The exit status: 0, or 2 with one line on the standard error.
    """
    return tell(lambda: _run(args))


def _run(args: Sequence[str] | None) -> None:
    command = _parser().parse_args(args)
    if command.command == "plot":
        _plot(command.runs, command.out)
    else:
        inspect(command.file)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="neuroactivity", description="Look at runs that neuroactivity.JsonLines recorded.",
                     allow_abbrev=False)  # fmt: skip
    parser.add_argument("--version", action="version", version=f"neuroactivity {neuroactivity.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="{plot,inspect}", required=True)
    plot = commands.add_parser("plot", help="make one HTML page of one run or more", allow_abbrev=False)
    plot.add_argument("runs", nargs="+", type=Path, metavar="RUN",
                      help="a file of records, or the folder of a run of the reference agents")  # fmt: skip
    plot.add_argument("--out", type=Path, required=True, metavar="PAGE.html", help="the page to write")
    look = commands.add_parser("inspect", help="print the table of the latest measurements", allow_abbrev=False)
    look.add_argument("file", type=Path, metavar="FILE",
                      help="a file of records, the folder of a run, or a layout saved as JSON")  # fmt: skip
    return parser


def _plot(paths: Sequence[Path], out: Path) -> None:
    """Write the page of runs, or nothing."""
    if out.exists() and not out.is_file():
        raise RecordsError(f"--out: expected the name of a page, got {out}, which is no file")
    if out.suffix.lower() == ".jsonl" or realpath(out) in map(realpath, paths):
        raise RecordsError(f"--out: expected the name of a page, got {out}, which holds records")
    text = build_page([read_run(path) for path in paths])
    out = Path(realpath(out.parent), out.name)  # a link of this name is replaced, and not followed
    write_text(out, text)
    print(f"{printable(str(out), longest=4000)} ({-(-len(text) // 1000):,} kB)")
