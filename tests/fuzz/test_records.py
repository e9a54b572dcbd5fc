"""Records, settings and checkpoints that are damaged in any way: read, or refused in one line; nothing is touched."""

import contextlib
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroactivity.escaping import file_name, picture_text, printable
from neuroactivity.looking import RecordsError, build_page, read_run
from neuroactivity.looking import commandline as looking
from neuroactivity.looking.writing import append
from reference_agents import analyze, sweep, train
from reference_agents.analyze import check_both, describe, read_histories
from reference_agents.compare import __main__ as compare
from reference_agents.config import Config
from reference_agents.errors import UsageError
from reference_agents.ranges import parse_range
from reference_agents.running.folder import RunFolder
from reference_agents.running.progress import Progress
from reference_agents.running.recording import Recorder
from reference_agents.running.replay import ReplayBuffer
from tests.fuzz.material import (
    bounded,
    command_of,
    damaged,
    fuzzed,
    fuzzed_rarely,
    fuzzed_slowly,
    lines,
    mutated,
    texts,
    values,
)

GROUP = {"neurons": 4, "inactive": 1, "reset": 1, "scores": [[0.0, 1.0], [2.0, None]], "reset_neurons": [[0], []]}
REPORT = {"version": 1, "step": 100, "tau": 0.01, "network": "critic", "method": "regrama", "run": 0,
          "groups": {"fc": GROUP, "out": {"neurons": 2, "inactive": 0}}, "absent": ["frozen"]}  # fmt: skip
METRICS = {"step": 50, "episode": 1, "return": 1.5, "evaluation": None, "neurons_reset/actor": 3,
           "measured_again/actor": 2, "reset_again/actor": 1, "neurons_reset": 3,
           "inactive/actor/fc": 0.25, "seconds": 1.0}  # fmt: skip


def scores(step, kind):
    return {"step": step, "network": "actor", "kind": kind, "tau": 0.02, "scores": {"fc": [[0.0, 1.0, 2.0]]},
            "reset": {"fc": [[0]]}}  # fmt: skip


SCORES = [scores(step, kind) for step in (10, 20) for kind in ("dormant", "inactive")]
LAYOUT = json.dumps({"groups": [{"name": "fc", "incoming": [{"param": "w", "pattern": "neuron in"}]}]}).encode()
CONTENTS = {
    "report": lines(REPORT, REPORT | {"step": 200}),
    "metrics": lines(METRICS, METRICS | {"step": 100}),
    "scores": lines(*SCORES),
}
some = st.sampled_from(list(CONTENTS)).flatmap(lambda name: damaged(CONTENTS[name]))
forms = st.sampled_from([REPORT, METRICS, SCORES[0]])


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.mark.counts(targets=1)
@fuzzed_slowly
@given(st.lists(forms.flatmap(mutated) | values, min_size=1, max_size=3))
def test_any_records(records):
    with folder() as out, bounded(), contextlib.suppress(RecordsError):
        (out / "run.jsonl").write_bytes(lines(*records))
        run = read_run(out / "run.jsonl")
        page = build_page([run])
        assert page.count("<script") == page.count("</script") == 2
        assert not {"\x1b", "\u202e"} & set(page)


@pytest.mark.counts(targets=1)
@fuzzed_slowly
@given(content=some)
def test_any_file_of_records_is_plotted_or_refused_in_one_line(content):
    with folder() as out:
        (out / "run.jsonl").write_bytes(content)
        status = command_of(looking.main, ["plot", str(out / "run.jsonl"), "--out", str(out / "page.html")])
        assert {path.name for path in out.iterdir()} == {"run.jsonl", *["page.html"] * (status == 0)}
        assert (out / "run.jsonl").read_bytes() == content


@pytest.mark.counts(targets=1)
@fuzzed_slowly
@given(content=some | damaged(LAYOUT))  # fmt: skip
def test_any_file_is_inspected_or_refused_in_one_line(content):
    with folder() as out:
        (out / "run.json").write_bytes(content)
        command_of(looking.main, ["inspect", str(out / "run.json")])


@pytest.mark.counts(targets=1)
@fuzzed
@given(mutated(json.loads(Config().to_json())) | values)
def test_any_settings(record):
    with bounded(), contextlib.suppress(UsageError):
        config = Config.from_json(json.dumps(record))
        assert Config.from_json(config.to_json()) == config


@pytest.mark.counts(targets=1)
@fuzzed
@given(damaged(CONTENTS["metrics"]) | damaged(CONTENTS["scores"]), st.integers(0, 4))
def test_any_records_of_a_run_that_goes_on(content, count):
    """What the check accepts, rewinding keeps: the same records, in a file that can be read again."""
    with folder() as out, bounded():
        recorder = Recorder(out / "metrics.jsonl")
        recorder.path.write_bytes(content)
        try:
            recorder.check(count, 100)
        except (UsageError, RecordsError):
            assert recorder.path.read_bytes() == content
            return
        recorder.rewind(count)
        again = Recorder(recorder.path)
        again.check(count, 100)
        assert [path.name for path in out.iterdir()] == ["metrics.jsonl"]


@pytest.mark.counts(targets=1)
@fuzzed_slowly
@given(st.lists(st.sampled_from(SCORES).flatmap(mutated), max_size=2), st.permutations(SCORES))
def test_any_scores_are_analysed_or_refused(changed, rest):
    with folder() as out, bounded(), contextlib.suppress(UsageError, RecordsError):
        (out / "scores.jsonl").write_bytes(lines(*changed, *rest))
        for network, methods in read_histories(out).items():
            check_both(network, methods)
            assert list(describe(network, methods, fraction=0.25))


@pytest.mark.counts(targets=1)
@fuzzed_slowly
@given(content=damaged(CONTENTS["scores"]))
def test_any_file_of_scores_ends_in_tables_or_in_one_line(content):
    with folder() as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyze, "draw", lambda *_, **__: None)  # pictures take most of the time
        (out / "scores.jsonl").write_bytes(content)
        command_of(analyze.main, [str(out)])
        assert (out / "scores.jsonl").read_bytes() == content


@pytest.mark.counts(targets=1)
@fuzzed_slowly
@given(name=st.sampled_from(["config.json", "metrics.jsonl", "summary.json"]), data=st.data())
def test_any_run_is_compared_left_out_or_refused_in_one_line(name, data):
    config = Config(steps=100, evaluate_every=50)
    files = {
        "config.json": config.to_json().encode(),
        "metrics.jsonl": lines(METRICS | {"evaluation": 1.0}, METRICS | {"step": 100, "evaluation": 2.0}),
        "summary.json": json.dumps({"step": 100, "evaluation": {"mean": 2.0}}).encode(),
    }
    files[name] = data.draw(damaged(files[name]))
    with folder() as out:
        for file, content in files.items():
            (out / file).write_bytes(content)
        command_of(compare.main, [str(out), "--resamples", "5"])
        assert {path.name: path.read_bytes() for path in out.iterdir()} == files


def checkpoint(out):
    replay = ReplayBuffer(4, 2, 1)
    for step in range(3):
        replay.add(np.ones(2), np.zeros(1), 1.0, np.ones(2), terminated=False, truncated=step == 2)
    RunFolder(out).save_checkpoint({"step": 3, "rng": {}}, b"agent", replay.state())
    return (out / "checkpoint.npz").read_bytes(), replay.state()


@pytest.mark.counts(targets=1)
@fuzzed_slowly
@given(st.data())
def test_any_checkpoint(data):
    with folder() as out, bounded():
        content, good = checkpoint(out)
        spoilt = data.draw(damaged(content))
        (out / "checkpoint.npz").write_bytes(spoilt)
        with contextlib.suppress(UsageError):
            _, agent, replay = RunFolder(out).load_checkpoint()
            buffer = ReplayBuffer(4, 2, 1)
            with contextlib.suppress(ValueError, KeyError):
                buffer.load_state(replay)
                assert agent == b"agent"
                np.testing.assert_array_equal(buffer.state()["rewards"], good["rewards"])


@pytest.mark.counts(targets=1)
@fuzzed
@given(mutated({"step": 3, "episode": 1, "returns": [1.0], "records": 1, "scores": 0, "checkpoint": 3, "seconds": 0.5}))
def test_any_progress(record):
    with bounded(), contextlib.suppress(ValueError, AttributeError):
        progress = Progress.restored(record)
        assert all(value >= 0 for name, value in vars(progress).items() if name != "returns")


@pytest.mark.counts(targets=1)
@fuzzed
@given(damaged(CONTENTS["report"]), values)
def test_a_record_is_appended_to_any_file(content, value):
    """Whole lines stay as they are, and the new one can be read."""
    with folder() as out, bounded():
        (out / "run.jsonl").write_bytes(content)
        with contextlib.suppress(ValueError):  # not finite
            append(out / "run.jsonl", {"value": value})
            whole, _, _ = content.rpartition(b"\n")
            assert (out / "run.jsonl").read_bytes().startswith(whole)
            assert b"value" in (out / "run.jsonl").read_bytes().splitlines()[-1]


options = ["--steps", "--out", "--resume", "--env", "--tau", "-h", "--", "=", "--seed=1", "--over", "plot", "inspect"]
others = ["reset=none", "seed=0..3", "seed=0..99999999999", "1e400", "-1", "nan", "9" * 5000, "[]", "~", "*"]
words = st.sampled_from(options) | st.sampled_from(others)
mains = [looking.main, train.main, sweep.main, compare.main, analyze.main]


@pytest.mark.counts(targets=1)
@fuzzed_rarely
@given(main=st.sampled_from(mains), args=st.lists(words | texts.filter(lambda t: "\0" not in t), max_size=5))
def test_any_command_line_ends_in_one_line(main, args):
    with folder() as out, contextlib.chdir(out), pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "train", lambda *_, **__: None)
        patch.setattr(sweep, "train_here", lambda *_, **__: [])
        (out / "run").mkdir()
        command_of(main, [arg.encode(errors="replace").decode() for arg in args])


@pytest.mark.counts(targets=1)
@fuzzed
@given(st.text(alphabet="0123456789.,abc-", max_size=30))
def test_any_range(text):
    with bounded(), contextlib.suppress(UsageError):
        assert 0 < len(parse_range("seed", text)) <= 10_000


@pytest.mark.counts(targets=1)
@fuzzed
@given(texts)
def test_any_name_is_harmless(text):
    assert printable(text).isprintable()
    name = file_name(text)
    assert Path("folder", name).resolve().parent == Path("folder").resolve()
    assert len(name.encode()) < 100
    assert picture_text(text).replace(r"\$", "").count("$") == 0
