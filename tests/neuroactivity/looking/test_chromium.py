"""The page in a browser: it draws itself, the keyboard moves the step, and nothing is asked for."""

import pytest

from neuroactivity.looking import build_page, read_run
from tests.neuroactivity.looking.chromium import CHROMIUM, browser
from tests.neuroactivity.looking.records import EVIL, recorded, written

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    names = ("none", "regrama")
    for name in names:
        for method in ("regrama", "redo"):
            recorded(folder / f"{name}.jsonl", network=EVIL, method=method, groups=("fc1", EVIL))
    text = build_page([read_run(folder / f"{name}.jsonl") for name in names])
    (folder / "page.html").write_text(text, encoding="utf-8")
    return folder / "page.html"


def test_the_page_draws_itself_and_the_keyboard_moves_the_step(page, tmp_path):
    with browser(tmp_path) as chromium:
        chromium.open(page.as_uri())
        shown = "document.getElementById('step-shown').textContent"
        assert chromium.value(shown) == "400"
        for name, least in (("curves", 6), ("resets", 2), ("maps", 8), ("scores", 4), ("quadrants", 4)):
            assert chromium.value(f"document.querySelectorAll('#{name} svg[role=img]').length") >= least, name
        assert chromium.value(
            "[...document.querySelectorAll('svg[role=img]')].every(s => s.getAttribute('aria-label'))"
        )
        assert chromium.value("document.querySelectorAll('b, [onload]').length") == 0

        focused = []
        for _ in range(3):
            chromium.press("Tab", 9)
            focused.append(chromium.value("document.activeElement.id || document.activeElement.className"))
        assert focused == ["skip", "step", "scroll"]
        chromium.value("document.getElementById('step').focus()")
        bars = "document.querySelector('#scores path[fill^=url]').getAttribute('d')"
        before = chromium.value(bars)
        chromium.press("ArrowLeft", 37)
        chromium.press("ArrowLeft", 37)
        assert chromium.value(shown) == "200"
        assert chromium.value(bars) != before
        assert "step 200" in chromium.value("document.querySelector('#quadrants svg').getAttribute('aria-label')")
        assert chromium.complaints == []
        assert [address for address in chromium.requests if not address.startswith("data:")] == [page.as_uri()]


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (480, True), (320, False)])
def test_nothing_is_wider_than_the_window(page, tmp_path, width, dark):
    with browser(tmp_path) as chromium:
        chromium.open(page.as_uri(), width=width, dark=dark)
        assert chromium.value("document.documentElement.scrollWidth") <= width
        background = chromium.value("getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(20, 23, 27)" if dark else "rgb(251, 250, 248)")
        assert chromium.complaints == []


def test_one_share_reads_alike_in_the_table_the_curve_and_the_distribution(tmp_path):
    path = recorded(tmp_path / "run.jsonl", 4, neurons=64, groups=("fc",))  # 4 of 64 are 6.25 percent
    (tmp_path / "page.html").write_text(build_page([read_run(path)]), encoding="utf-8")
    with browser(tmp_path) as chromium:
        chromium.open((tmp_path / "page.html").as_uri())
        shown = ("td .share", "#curves figcaption small", "#scores svg > text")
        for selector in shown:
            assert "6.2%" in chromium.value(f"document.querySelector('{selector}').textContent"), selector
        assert "6.3%" not in chromium.value("document.documentElement.outerHTML")


def test_a_long_remark_is_read_without_scrolling_aside(tmp_path):
    remark = "not proved: " + "it feeds a parameter of another network, " * 6
    groups = {"fc": {"neurons": 64, "inactive": 4, "status": "unproved", "reason": remark}}
    path = written(tmp_path / "run.jsonl", {"step": 1, "tau": 0.01, "groups": groups})
    (tmp_path / "page.html").write_text(build_page([read_run(path)]), encoding="utf-8")
    with browser(tmp_path) as chromium:
        chromium.open((tmp_path / "page.html").as_uri(), width=1100)
        assert remark.strip() in chromium.value("document.querySelector('td:last-child').textContent")
        assert (
            chromium.value("(table => table.scrollWidth - table.clientWidth)(document.querySelector('.scroll'))") == 0
        )
