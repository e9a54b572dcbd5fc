"""The page of a run: complete, bounded, and nothing in it obeys a record."""

import base64
import html.parser
import json
import re

import pytest

from neuroactivity.looking import build_page, read_run
from neuroactivity.looking.encoding import codes, histogram, score_map
from tests.neuroactivity.looking.records import EVIL, many, recorded, report, written


class Elements(html.parser.HTMLParser):
    """The elements of a page with their attributes, and its texts."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def page_of(*paths):
    return build_page([read_run(path) for path in paths])


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_a_page_has_its_runs_groups_figures_and_numbers(tmp_path):
    runs = [recorded(tmp_path / f"{name}.jsonl", network="critic", method="regrama") for name in ("none", "regrama")]
    page = page_of(*runs)
    words = " ".join(Elements(page).texts)
    assert "none · regrama" in words
    for name in ("fc1", "fc2", "critic · GraMa score", "66.7%", "of 12 neurons in 2 groups", "Quadrants are left out"):
        assert name in words
    data = data_of(page)
    (section,) = data["sections"]
    assert data["runs"] == ["none", "regrama"]
    assert section["lanes"][0]["steps"] == [100, 200, 300, 400]
    assert section["lanes"][0]["groups"]["0"] == {"y": [0.166667, 0.333333, 0.5, 0.666667], "reset": [0, 1, 1, 1]}
    assert section["lanes"][1]["reset"] == [0, 2, 2, 2]


def test_a_map_has_the_lowest_neurons_on_top_and_their_resets():
    drawn = score_map([codes([1.5, 0.0], 0.01), codes([1.5, 0.02], 0.01)], [set(), {1}], most=8)
    rows = base64.b64decode(drawn["codes"])
    assert list(rows[:2]) == [1, codes([0.02], 0.01)[0]]
    assert rows[2] == rows[3] > 64
    assert base64.b64decode(drawn["marks"]) == bytes([0b0010])


def test_a_row_of_several_neurons_is_their_median_with_the_resets_of_all():
    drawn = score_map([codes([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 0.01)], [{1, 5}], most=2)
    assert drawn["rows"] == 2
    assert base64.b64decode(drawn["codes"]) == bytes([1, codes([1.0], 0.01)[0]])
    assert base64.b64decode(drawn["marks"]) == bytes([0b11])


@pytest.mark.parametrize("tau", [0.0, 1e-30, 0.01, 0.025, 100.0])
def test_a_score_of_tau_is_inactive_and_the_next_one_active(tau):
    above = tau * (1 + 1e-12) or 5e-324
    at, over = codes([tau, above], tau)
    assert at < 64 <= over
    assert sum(histogram(codes([tau, above], tau))[:7]) == sum(histogram(codes([above], tau))) // 2 + 1


def test_quadrants_pair_the_two_scores_of_a_neuron(tmp_path):
    path = recorded(tmp_path / "run.jsonl", 3, network="critic", method="regrama")
    recorded(path, 3, network="critic", method="redo", resets=False)
    first, _ = data_of(page_of(path))["quadrants"]
    assert first["title"] == "critic · fc1"
    assert first["steps"] == [100, 200, 300]
    assert first["kinds"] == [[5, 0, 0, 1], [4, 0, 0, 2], [3, 0, 0, 3]]


def test_what_a_name_says_is_neither_markup_nor_script(tmp_path):
    path = recorded(tmp_path / "run.jsonl", network=EVIL, groups=(EVIL, "fc"))
    page = page_of(path)
    elements = Elements(page).elements
    assert not [tag for tag, _ in elements if tag == "b"]
    assert len([tag for tag, _ in elements if tag == "script"]) == 2
    assert page.count("</script") == 2
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert data_of(page)["sections"][0]["groups"][0].startswith("</script><b onload=x>")


def test_a_page_asks_for_nothing_outside_it(tmp_path):
    page = page_of(recorded(tmp_path / "run.jsonl"))
    policy = next(attrs["content"] for tag, attrs in Elements(page).elements if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    assert re.findall(r"https?://[^\s\"']+", page) == ["http://www.w3.org/2000/svg"]


def test_a_long_run_with_many_groups_gives_a_page_of_bounded_size_that_says_so(tmp_path):
    page = page_of(many(tmp_path / "run.jsonl", measurements=800, groups=60))
    assert "Curves have at most 300 points" in page
    assert len(data_of(page)["sections"][0]["lanes"][0]["steps"]) == 300
    assert len(page) < 1_500_000


@pytest.mark.slow
def test_ten_thousand_measurements_of_a_hundred_groups_give_a_page_of_a_few_megabytes(tmp_path):
    page = page_of(many(tmp_path / "run.jsonl", measurements=10_000, groups=100))
    assert len(page) < 4_000_000


def test_many_runs_large_groups_and_replaced_records_are_told_on_the_page(tmp_path):
    paths = [recorded(tmp_path / f"{n}.jsonl", 2, neurons=600, groups=("fc",)) for n in range(9)]
    recorded(paths[0], 1, neurons=600, groups=("fc",))
    page = page_of(*paths)
    assert "A page shows 8 runs; left out: 1 run." in page
    assert "in larger groups a row is the median of several neurons" in page
    assert "0: 2 records replaced by later records" in page
    assert len(data_of(page)["runs"]) == 8


def test_runs_of_one_name_are_told_apart(tmp_path):
    paths = [recorded(tmp_path / folder / "run.jsonl", 1) for folder in ("a", "b")]
    assert data_of(page_of(*paths))["runs"] == ["run", "run (2)"]


def test_records_without_scores_give_a_page_without_maps(tmp_path):
    page = page_of(written(tmp_path / "run.jsonl", report().to_dict()))
    assert 'id="maps"' not in page
    assert "Maps and distributions of scores are left out" in page
