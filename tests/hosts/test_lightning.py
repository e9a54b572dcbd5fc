"""``ActivityCallback`` in short fits of Lightning."""

import csv

import pytest
import torch
from torch import nn

import neuroactivity as na
from neuroactivity_torch import ReDo
from tests.hosts.audit import Audit, check_operations

pytestmark = pytest.mark.filterwarnings("default", "ignore:.*resets do not last")
lightning = pytest.importorskip("lightning.pytorch")
host = pytest.importorskip("neuroactivity_torch.hosts.lightning")

SEEDED = torch.Generator().manual_seed(0)
DATA = torch.utils.data.TensorDataset(torch.randn(64, 3, generator=SEEDED), torch.randn(64, 1, generator=SEEDED))


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 1))

    def forward(self, inputs):
        return self.net(inputs)

    def training_step(self, batch, number):
        return (self(batch[0]) - batch[1]).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


class Pair(lightning.LightningModule):
    """Two networks with an optimizer each."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.generator = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3))
        self.critic = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))

    def training_step(self, batch, number):
        for optimizer, sign in zip(self.optimizers(), (-1, 1), strict=True):
            optimizer.zero_grad()
            self.manual_backward(sign * (self.critic(self.generator(batch[0])) - self.critic(batch[0])).mean())
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.Adam(net.parameters()) for net in (self.generator, self.critic)]


class Listening(lightning.Callback):
    """Makes an audit as soon as there are optimizers."""

    def __init__(self, names):
        self.names = names

    def on_train_start(self, trainer, module):
        networks = zip(self.names, trainer.optimizers, strict=True)
        self.audit = Audit(module, {n: (module if n == "model" else getattr(module, n), own) for n, own in networks})


def fit(module, callback, *, epochs=2, before=(), ckpt_path=None, size=16, **kwargs):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(
        max_epochs=epochs, callbacks=[*before, callback], **{"enable_checkpointing": False, **quiet, **kwargs}
    )
    trainer.fit(module, torch.utils.data.DataLoader(DATA, size), ckpt_path=ckpt_path)
    return trainer


def audited(module, names, **options):
    listening = Listening(names)
    callback = host.ActivityCallback(every=2, tau=0.4, on_report=lambda *told: listening.audit(*told), **options)
    on_start = listening.on_train_start

    def start(trainer, module):
        on_start(trainer, module)
        listening.audit.layouts = {name: lambda name=name: callback.wrappers[name]._reported for name in names}

    listening.on_train_start = start
    return listening, callback


@pytest.mark.parametrize("how", [{}, {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
                                 {"accumulate_grad_batches": 2}], ids=["plain", "clipped", "accumulated"])  # fmt: skip
def test_scores_resets_and_moments(how):
    listening, callback = audited(module := Module(), ["model"], method="regrama")
    fit(module, callback, before=[listening], **how)
    wrapper = callback.wrappers["model"]
    assert wrapper.steps == (4 if "accumulate_grad_batches" in how else 8)
    assert wrapper.neurons_reset == listening.audit.reset["model"] > 0
    assert wrapper.layout["net.0"].status == "exclusive"
    listening.audit.check_detached()


def test_several_optimizers_are_named_by_what_they_train():
    inputs = {"generator": lambda batch: batch[0], "critic": lambda batch: batch[0]}
    listening, callback = audited(module := Pair(), list(inputs), method="regrama", inputs=inputs)
    fit(module, callback, before=[listening])
    assert callback.wrappers.keys() == listening.audit.reset.keys() == inputs.keys()
    assert all(reset > 0 for reset in listening.audit.reset.values())


def test_by_default_it_measures_without_a_search_or_a_reset():
    reports = []
    callback = host.ActivityCallback(every=2, on_report=lambda name, report: reports.append(report))
    plain, measured = Module(), Module()
    fit(plain, lightning.Callback())
    fit(measured, callback)
    assert len(reports) == 4
    assert reports[0]["net.0"].status == "listed"
    assert all(torch.equal(old, new) for old, new in zip(plain.parameters(), measured.parameters(), strict=True))


def test_redo_runs_the_module_on_the_batch():
    callback = host.ActivityCallback("redo", every=2, tau=0.9)
    fit(Module(), callback)
    assert isinstance(callback.wrappers["model"], ReDo)
    assert callback.wrappers["model"].neurons_reset > 0


def test_the_loggers_get_every_report(tmp_path):
    logger = lightning.loggers.CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    trainer = fit(Module(), host.ActivityCallback(every=3), logger=logger)
    with open(f"{logger.log_dir}/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "5"]
    assert 0 <= float(rows[0]["neuroactivity/model/net.0/inactive_fraction"]) <= 1
    assert "neuroactivity/model/inactive_fraction" in trainer.callback_metrics


def test_a_fit_that_is_resumed_from_a_checkpoint_goes_on(tmp_path):
    whole, first, rest = [host.ActivityCallback("regrama", every=3, tau=0.4) for _ in range(3)]
    fit(Module(), whole, epochs=4)
    fit(Module(), first).save_checkpoint(tmp_path / "half.ckpt")
    fit(Module(), rest, epochs=4, ckpt_path=tmp_path / "half.ckpt")
    assert rest.wrappers["model"].steps == whole.wrappers["model"].steps == 16
    assert rest.wrappers["model"].neurons_reset == whole.wrappers["model"].neurons_reset > 0
    assert rest.wrappers["model"].layout == whole.wrappers["model"].layout


def test_a_second_fit_goes_on_and_an_exception_detaches():
    module, callback = Module(), host.ActivityCallback("regrama", every=3)
    fit(module, callback)
    fit(module, callback)
    assert callback.wrappers["model"].steps == 16

    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer, *args):
            self.optimizer = trainer.optimizers[0]
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fit(module, callback, before=[stop := Stop()])
    assert not stop.optimizer._optimizer_step_post_hooks


def test_errors_are_early():
    with pytest.raises(ValueError, match=r"^tau: "):
        host.ActivityCallback(tau=-1)
    for inputs in (3, {"model": 3}):
        with pytest.raises(ValueError, match=r"^inputs: expected a function of a batch, or a mapping of such, got"):
            host.ActivityCallback(inputs=inputs)
    with pytest.raises(ValueError, match=r"^inputs: expected a function for each network, got none for 'critic'"):
        fit(Pair(), host.ActivityCallback("regrama", inputs={"generator": lambda batch: batch[0]}))
    with pytest.raises(na.LayoutError, match=r"^example_inputs: the model fails"):
        fit(Module(), host.ActivityCallback("regrama", inputs=lambda batch: batch[1]))


def test_between_measurements_nothing_is_computed():
    def train(size, **options):
        fit(Module(), host.ActivityCallback(**options) if options else lightning.Callback(), size=size, max_steps=8)

    check_operations(train)


class Sharing(Pair):
    """A trunk with two heads, and two optimizers, the second of the other head alone or of both."""

    def __init__(self, second):
        super().__init__()
        self.second = second
        self.trunk = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3), nn.ReLU())

    def forward(self, x):
        return self.generator(self.trunk(x)), self.critic(self.trunk(x))

    def training_step(self, batch, number):
        for optimizer, place in zip(self.optimizers(), (0, 1), strict=True):
            optimizer.zero_grad()
            self.manual_backward((self(batch[0])[place] - batch[1]).square().mean())
            optimizer.step()

    def configure_optimizers(self):
        second = self.critic if self.second == "head" else nn.ModuleList([self.critic, self.trunk])
        return [
            torch.optim.Adam([*self.generator.parameters(), *self.trunk.parameters()]),
            torch.optim.Adam(second.parameters()),
        ]


@pytest.mark.parametrize(
    ("second", "alone"),
    [("head", {"trunk.2": "written with what its optimizer does not train"}),
     ("both", dict.fromkeys(["trunk.0", "trunk.2"], "trained with several networks"))],
)  # fmt: skip
def test_what_another_optimizer_trains_too_is_left_alone(second, alone):
    callback = host.ActivityCallback("regrama", every=2, tau=0.5, inputs=lambda batch: batch[0])
    if second == "head":
        callback._inputs = {"optimizer_0": lambda batch: batch[0], "critic": lambda batch: batch[0]}
    fit(Sharing(second), callback)
    layout = callback.wrappers["optimizer_0"].layout
    left = {name: group.reason.partition(" in ")[0] for name, group in layout.items() if not group.resettable}
    assert alone.items() <= left.items()
    assert layout["generator.0"].resettable
    assert all(wrapper.neurons_reset > 0 for wrapper in callback.wrappers.values())


def test_optimizers_that_are_replaced_are_attached_to():
    class Replacing(Module):
        def on_train_epoch_start(self):
            if self.current_epoch == 1:
                self.trainer.strategy.setup_optimizers(self.trainer)

    callback = host.ActivityCallback("regrama", every=2)
    with pytest.warns(na.ActivityWarning, match="^optimizers were replaced, attaching anew$"):
        fit(Replacing(), callback, epochs=3)
    assert callback.wrappers["model"].steps == 12


def test_another_module_starts_anew():
    deep, callback = Module(), host.ActivityCallback("regrama", every=2, tau=0.4)
    deep.net = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 1))
    fit(Module(), callback)
    with pytest.warns(na.ActivityWarning, match="^model starts anew: its state is of a network with other parameters$"):
        fit(deep, callback)
    assert [view.param for view in callback.wrappers["model"].layout["net.0"].outgoing] == ["net.2.weight"]
    assert callback.wrappers["model"].layout["net.2"].status == "exclusive"
