"""``neuroactivity`` on the command line: a page of runs, and the table of a file."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import neuroactivity
from neuroactivity.looking.inspecting import inspect
from neuroactivity.looking.page import build_page
from neuroactivity.looking.reading import read_run
from neuroactivity.looking.text import RecordsError, printable


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise RecordsError(f"{message}; {self.prog} --help says more")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Arguments; those of the process by default.

    Returns:
        The exit status: 0, or 2 with one line on the standard error.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        command = _parser().parse_args(args)
        if command.command == "plot":
            _plot(command.runs, command.out)
        else:
            inspect(command.file)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the table has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (RecordsError, OSError) as error:
        print(f"error: {printable(_message(error), longest=600)}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="neuroactivity", description="Look at runs that neuroactivity.JsonLines recorded.",
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
    out = out.resolve()
    if out.exists() and not out.is_file():
        raise RecordsError(f"--out: expected the name of a page, got {out}, which is no file")
    if out.suffix == ".jsonl" or out in [path.resolve() for path in paths]:
        raise RecordsError(f"--out: expected the name of a page, got {out}, which holds records")
    text = build_page([read_run(path) for path in paths])
    draft = out.with_name(f".{out.name}.{os.getpid()}.draft")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        os.replace(draft, out)
    finally:
        draft.unlink(missing_ok=True)
    print(f"{printable(str(out), longest=4000)} ({-(-len(text) // 1000):,} kB)")


def _message(error: Exception) -> str:
    """Return what to tell of an error."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
