"""Which of its inputs a module reads with a parameter, however it is called."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import neuroactivity as na
from neuroactivity_torch import ReDo, activations, layout_of
from tests.adapters.torch.models import IMAGES, kill, mlp
from tests.adapters.torch.reading import Telling, assert_reads

X = torch.randn(8, 4, 5, generator=torch.Generator().manual_seed(1))


def dense(name, *readers, **options):
    outgoing = [reader if isinstance(reader, na.ParamView) else (reader, "out neuron") for reader in readers]
    return na.dense(name, weight=(f"{name}.weight", "neuron in"), bias=f"{name}.bias", outgoing=outgoing, **options)


@pytest.mark.parametrize("by_name", [False, True])
def test_attention_reads_queries_keys_and_values(by_name):
    def run(net, x, context):
        q, k, v = torch.relu(net.q(x)), torch.relu(net.k(context)), torch.relu(net.v(context))
        net.tell(q=q, k=k, v=v)
        attended = net.attn(value=v, key=k, query=q) if by_name else net.attn(q, k, v)
        return net.out(attended[0])

    attention = nn.MultiheadAttention(16, 2, kdim=16, vdim=12, batch_first=True)
    layers = {"q": nn.Linear(5, 16), "k": nn.Linear(7, 16), "v": nn.Linear(7, 12), "out": nn.Linear(16, 2)}
    groups = [dense(part, f"attn.{part}_proj_weight") for part in "qkv"]
    assert_reads(Telling(run, attn=attention, **layers), X, torch.randn(8, 3, 7), layout=na.Layout(groups))


def test_attention_with_one_projection_reads_what_all_three_are():
    """Where query and keys differ, the columns of one array do not tell them apart; they are followed."""

    def run(net, x, context):
        q, k = torch.relu(net.q(x)), torch.relu(net.k(context))
        net.tell(q=q, k=k)
        return net.attn(query=q, key=k, value=k)[0]

    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    groups = na.Layout([dense("q", "attn.in_proj_weight"), dense("k", "attn.in_proj_weight")])
    model = Telling(run, attn=attention, q=nn.Linear(5, 16), k=nn.Linear(7, 16))
    assert_reads(model, X, torch.randn(8, 3, 7), layout=groups)
    assert_reads(Telling(lambda net, x: run(net, x, x), attn=attention, q=nn.Linear(5, 16), k=nn.Linear(5, 16)), X)

    def itself(net, x):
        h = torch.relu(net.q(x))
        net.tell(q=h)
        return net.attn(query=h, key=h, value=h)[0]

    assert_reads(Telling(itself, attn=attention, q=nn.Linear(5, 16)), X, layout=na.Layout([groups["q"]]))


def test_recurrent_layers_read_their_inputs_and_their_first_state():
    def run(net, x, z):
        state, inputs = torch.tanh(net.z(z)), torch.relu(net.x(x))
        net.tell(z=state, x=inputs)
        for step in range(x.shape[1]):
            state = net.cell(hx=state, input=inputs[:, step])
            net.tell(cell=state)
        return net.out(state)

    layers = {"z": nn.Linear(3, 6), "x": nn.Linear(5, 4), "cell": nn.GRUCell(4, 6), "out": nn.Linear(6, 2)}
    groups = [dense("z", "cell.weight_hh"), dense("x", "cell.weight_ih")]
    groups.append(na.recurrent("cell", input="cell.weight_ih", recurrent="cell.weight_hh", gates=3))
    assert_reads(Telling(run, **layers), X, torch.randn(8, 3), layout=na.Layout(groups))


@pytest.mark.parametrize("feeds", [True, False])
def test_packed_sequences_are_read_without_their_padding(feeds):
    def run(net, x):
        packed = pack_padded_sequence(torch.relu(net.e(x)), torch.tensor([4, 2, 1, 3] * 2), True, False)
        net.tell(e=packed.data)
        return net.out(net.lstm(packed)[1][0][-1])

    model = Telling(run, e=nn.Linear(5, 6), lstm=nn.LSTM(6, 3, batch_first=True), out=nn.Linear(3, 2))
    assert_reads(model, X, layout=na.Layout([dense("e", *["lstm.weight_ih_l0"] * feeds)]))


def test_a_padding_mask_does_not_bring_nested_tensors():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.first, self.encoder = nn.Linear(5, 8), nn.TransformerEncoder(layer, 1)

        def forward(self, x, mask):
            return self.encoder(self.first(x), src_key_padding_mask=mask)

    model, mask = Model(), torch.arange(4).expand(8, 4) > 2
    layer = "encoder.layers.0.linear"
    groups = na.Layout([dense(f"{layer}1", f"{layer}2.weight"), dense(f"{layer}2"), dense("first")])
    seen = activations(model, X, mask, layout=groups)
    assert seen[f"{layer}1"].shape == (8, 4, 16)
    assert (seen[f"{layer}1"] >= 0).all()
    torch.testing.assert_close(seen["first"].reshape(8, 4, 8), model.first(X))
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_trunk_whose_features_two_heads_share_out():
    def run(net, x):
        hidden = torch.relu(net.fc(x))
        net.tell(fc=hidden)
        value, advantage = hidden.chunk(2, -1)
        return net.v(value) + net.a(advantage)

    model = Telling(run, fc=nn.Linear(5, 16), v=nn.Linear(8, 1), a=nn.Linear(8, 4))
    x = X[:, 0]
    assert_reads(model, x, search=True)
    layout = layout_of(model, x)
    assert layout["fc"].status == "exclusive"
    assert torch.equal(activations(model, x, layout=layout)["fc"], torch.relu(model.fc(x)))


def test_a_head_that_all_sizes_of_a_pyramid_share():
    def run(net, x):
        first = torch.relu(net.a(x))
        second = torch.relu(net.b(first))
        towers = [torch.relu(net.tower(level)) for level in (first, second)]
        net.tell(tower=towers[0].movedim(1, -1))
        net.tell(tower=towers[1].movedim(1, -1))
        return [net.head(tower) for tower in towers]

    layers = {"a": nn.Conv2d(3, 8, 3, padding=1), "b": nn.Conv2d(8, 8, 3, 2, 1), "tower": nn.Conv2d(8, 6, 3)}
    model = Telling(run, **layers, head=nn.Conv2d(6, 2, 1))
    weight, head = ("tower.weight", "neuron in h w"), ("head.weight", "out neuron h w")
    for outgoing in ([head], []):
        group = na.conv("tower", weight=weight, bias="tower.bias", outgoing=outgoing)
        assert_reads(model, torch.randn(4, 3, 8, 8), layout=na.Layout([group]))


def test_a_layer_that_reads_two_trunks_does_not_mix_them_up():
    def run(net, x):
        a, b = torch.relu(net.a(x)), torch.relu(net.b(x))
        net.tell(a=a, b=b)
        return net.head(a), net.head(b)

    model = Telling(run, a=nn.Linear(5, 16), b=nn.Linear(5, 16), head=nn.Linear(16, 2))
    assert_reads(model, X, layout=na.Layout([dense("a", "head.weight"), dense("b", "head.weight")]))


class Rectifying(nn.Linear):
    """A layer that has its activation function in front."""

    def forward(self, x):
        return super().forward(torch.relu(x))


class Scaling(nn.Module):
    """A layer of somebody's own, which reads one of several inputs."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 2))

    def forward(self, noise, x):
        return torch.relu(x) @ self.weight + noise


@pytest.mark.parametrize("reader", [Rectifying(16, 2), Scaling()], ids=["in front", "two inputs"])
def test_a_module_of_somebodys_own_is_not_trusted_to_read_its_input(reader):
    def run(net, x):
        hidden = net.a(x)
        net.tell(a=torch.relu(hidden))
        return net.reader(hidden) if isinstance(reader, nn.Linear) else net.reader(torch.ones(2), hidden)

    pattern = "out neuron" if isinstance(reader, nn.Linear) else "neuron out"
    group = dense("a", na.ParamView("reader.weight", pattern))
    assert_reads(Telling(run, a=nn.Linear(5, 16), reader=reader), X, layout=na.Layout([group]))


def test_one_image_and_one_vector_need_no_batch():
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(0), nn.Linear(216, 16), nn.Tanh(), nn.Linear(16, 2))
    image = IMAGES[0]
    layout = layout_of(model, image)
    seen = activations(model, image, layout=layout)
    assert seen["3"].shape == (1, 16)
    means = model[:2](image).abs().mean((1, 2))
    torch.testing.assert_close(na.tau_dormant(seen, layout)["0"], means / means.mean())


@pytest.mark.parametrize("compiled", ["module", "in place"])
@pytest.mark.parametrize("training", [True, False])
def test_compiled_modules_are_measured_as_others_are(compiled, training):
    model = mlp()
    kill(model[0], [3, 5])
    called = torch.compile(model, backend="eager") if compiled == "module" else model
    if compiled == "in place":
        model.compile(backend="eager")
    x, prefix = X[:, 0], "_orig_mod." if compiled == "module" else ""
    called.train(training)
    with torch.no_grad():
        called(x)
    groups = na.Layout([dense(f"{prefix}0", f"{prefix}2.weight"), dense(f"{prefix}2", f"{prefix}4.weight")])
    optimizer = torch.optim.SGD(called.parameters(), lr=0.0)
    redo = ReDo(called, optimizer, layout=groups, tau=0.0, every=1, probe=lambda: x)
    called(x).sum().backward()
    optimizer.step()
    assert redo.last_report[f"{prefix}0"].reset >= 2
    assert (model[2].weight[:, [3, 5]] == 0).all()
    assert torch.equal(activations(called, x, layout=groups)[f"{prefix}2"], model[:4](x))
