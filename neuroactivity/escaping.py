"""Names that come from files, made safe for where they are shown or used: a terminal, a picture, a file's name."""

import hashlib
import re

__all__ = ["file_name", "picture_text", "printable"]

LONGEST = 120
"""Characters of a name that are shown."""


def printable(text: str, *, longest: int = LONGEST) -> str:
    r"""Return a text without anything that a terminal or a browser would obey, and not too long.

    Example:
        >>> print(printable("fc\x1b[31m"))
        fc\x1b[31m
        >>> printable("abcdefghij", longest=7)
        'abc…hij'
    """
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]}…{text[len(text) - half :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def picture_text(text: str, *, longest: int = 60) -> str:
    r"""Return a text that matplotlib draws as it is: dollars begin no formula, and an underscore hides no line.

    Example:
        >>> picture_text("$\\frac{$"), picture_text("_fc")
        ('\\$\\frac{\\$', ' _fc')
    """
    shown = printable(text, longest=longest).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def file_name(text: str, *, longest: int = 80) -> str:
    """Return a name for a file in a folder, the same for the same text: no path, not hidden, not too long.

    Example:
        >>> file_name("critic1"), file_name("../../X")
        ('critic1', '_._.._X-3b89eb24')
    """
    name = re.sub(r"^\.|[^A-Za-z0-9._+=,@ -]", "_", text)[:longest]
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return name if name == text and name else f"{name}-{digest}"
