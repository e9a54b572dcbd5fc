"""Formulas as MathML, which browsers draw by themselves: an MkDocs hook."""

import html
import re

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """Replace what ``arithmatex`` has marked."""
    return FORMULA.sub(lambda found: mathml(found[3], display="block" if found[2] == "[" else "inline"), content)


def mathml(latex: str, *, display: str) -> str:
    """A formula, with its source as what is read aloud where MathML is not known."""
    return convert(html.unescape(latex).strip(), display=display)
