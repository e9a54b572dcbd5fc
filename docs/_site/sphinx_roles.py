"""Docstrings cross-reference with Sphinx's roles, which editors show; the site is in Markdown: an extension of griffe.

``:func:`~package.module.name``` becomes a link to the object, ``.. math::`` and ``:math:`` formulas between dollars.
"""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|data|func|meth|mod):`(~?)([\w.]+)`")
PACKAGES = ("neuroactivity", "neuroactivity_jax", "neuroactivity_tensorflow", "neuroactivity_torch")


class SphinxRoles(griffe.Extension):
    """Rewrites the docstring of every object that was loaded."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called once for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value, obj)


def to_markdown(text: str, obj: griffe.Object) -> str:
    """The docstring with links and dollars instead of roles and directives."""
    text = re.sub(r"^( *)\.\. math:: (.*)$", r"\1$$\2$$", text, flags=re.MULTILINE)
    text = re.sub(r"^( *)Example:$", r"\1Examples:", text, flags=re.MULTILINE)  # whose sessions are shown as code
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    return ROLE.sub(lambda role: link(role[2], short=bool(role[1]), obj=obj), text)


def link(target: str, *, short: bool, obj: griffe.Object) -> str:
    """A link to a target of our own packages; any other is code."""
    shown = target.rsplit(".", 1)[-1] if short else target
    path = target if target.split(".")[0] in PACKAGES else resolved(target, obj)
    if path.split(".")[0] not in PACKAGES:
        return f"`{shown}`"
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'  # code alone where it has no page


def resolved(target: str, obj: griffe.Object) -> str:
    """The full name of what a docstring names by a short one."""
    try:
        return obj.resolve(target)
    except griffe.NameResolutionError:
        return target
