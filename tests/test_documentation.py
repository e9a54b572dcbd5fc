"""What the documentation names exists."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_names_exists(page: Path):
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text()):
        assert f"\ndef {name}(" in (ROOT / file).read_text(), f"{page.name} names {file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path):
    roots = "adapters|benchmarks|docs|neuroactivity|reference_agents|tests"
    for path in re.findall(rf"`((?:{roots})/[\w/.]+)(?:::\w+)?`", page.read_text()):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_pictures_of_layouts_are_those_that_the_library_draws():
    drawing = runpy.run_path(str(ROOT / "docs/_site/layout_pictures.py"))
    for name, network in drawing["networks"]().items():
        kept = (ROOT / "docs/images/layouts" / f"{name}.svg").read_text()
        assert kept == drawing["picture"](*network), f"{name}: run python docs/_site/layout_pictures.py"
