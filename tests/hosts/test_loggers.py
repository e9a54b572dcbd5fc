"""The lines for loggers that the documentation gives, run with the loggers themselves."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from neuroactivity_torch import ReGraMa

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")
DOCS = Path(__file__).parents[2] / "docs"
STEP = 3


def lines(logger):
    """Return the code that the pages' tables give for a logger, and whether it is an ``on_report``."""
    pages = {name: (DOCS / name).read_text(encoding="utf-8") for name in ("how_to/logging.md", "looking.md")}
    rows = [(name, row) for name, page in pages.items() for row in re.findall(rf"\| {logger} \| `(.*)` \|", page)]
    assert rows
    return [(name == "looking.md", row) for name, row in rows]


def log(logger, **names):
    """Train for three steps and log by each of the lines; return the values that are to be found."""
    expected = {}
    for is_listener, code in lines(logger):
        model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters())
        names["step"] = STEP
        listener = eval(code, names) if is_listener else None
        regrama = ReGraMa(model, optimizer, example_inputs=torch.zeros(2, 3), every=STEP, on_report=listener)
        for _ in range(STEP):
            model(torch.randn(4, 3)).sum().backward()
            optimizer.step()
        if not is_listener:
            exec(code, {**names, "regrama": regrama})
        expected |= regrama.scalars("neuroactivity" if is_listener else "critic")
    assert {"critic/neurons", "critic/0/inactive_fraction"} <= expected.keys()
    return expected


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        expected = log("TensorBoard", writer=writer)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {key: events.Scalars(key)[-1].value for key in expected} == pytest.approx(expected)
    assert events.Scalars("critic/neurons")[-1].step == STEP


def test_weights_and_biases(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(project="test", dir=tmp_path) as run:
        expected = log("Weights & Biases", wandb=wandb)
        run.log({}, step=STEP + 1)
        assert {key: run.summary[key] for key in expected} == pytest.approx(expected)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run() as run:
        expected = log("MLflow", mlflow=mlflow)
    metrics = mlflow.get_run(run.info.run_id).data.metrics
    assert {key: metrics[key] for key in expected} == pytest.approx(expected)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "critic/neurons")
    assert [each.step for each in history] == [STEP]


def test_stable_baselines3():
    logger = pytest.importorskip("stable_baselines3.common.logger").Logger(None, [])
    log("Stable-Baselines3", self=SimpleNamespace(logger=logger))
    assert logger.name_to_value["critic/neurons"] == 9
