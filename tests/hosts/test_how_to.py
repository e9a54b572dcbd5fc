"""The page on hosts: its code runs where the host is installed, and the tests that it names exist."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")
HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "hosts.md").read_text(encoding="utf-8")
BLOCKS = {
    section.splitlines()[0]: block
    for section in PAGE.split("\n## ")[1:]
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
}


@pytest.mark.parametrize("host", BLOCKS)
def test_the_code_of_the_page(host, tmp_path, monkeypatch):
    package = re.search(r"neuroactivity_torch\.hosts\.(\w+)", BLOCKS[host])
    pytest.importorskip(package[1])
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[host], host, "exec"), {"__name__": "page"})


def test_the_tests_that_the_table_names_exist():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| .*\(`test_\w+`\)", line)]
    assert len(rows) == 7
    for row in rows:
        file, *names = re.findall(r"`(test_\w+)`", row)
        source = (HERE / f"{file}.py").read_text(encoding="utf-8")
        assert [name for name in names if f"def {name}(" not in source] == []
