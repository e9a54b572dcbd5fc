"""An MLP with LayerNorm, SimBa and attention: their layers in each framework, and what their layouts are to be."""

KINDS = ("simba", "attention")
ALL = ("mlp_layernorm", *KINDS)
FRAMEWORKS = ("torch", "jax", "tensorflow")
COMPILED = ("jax", "tensorflow")
HEADS = 4
INPUTS, WIDTH, ACTION = 5, 16, 2
WIDE = {"simba": 4, "attention": 2}
_LEAVES = dict.fromkeys(("kernel", "embedding", "embeddings", "scale", "gamma"), "weight") | {"beta": "bias"}


def common(name):
    """The name that PyTorch gives to a group or a parameter."""
    name = name.replace("/", ".").replace(".attention.", ".").replace("output_dense", "out").replace("_dense", "")
    layer, _, leaf = name.rpartition(".")
    return f"{layer}.{_LEAVES[leaf]}" if leaf in _LEAVES else name


def plain(name):
    return common(name).removeprefix("trunk.")


def block(number, wide):
    """The groups of a residual block: number of neurons, status, and the layers that they feed."""
    return {
        f"block{number}.norm": (WIDTH, "exclusive", {f"block{number}.layer1"}),
        f"block{number}.layer1": (wide, "exclusive", {f"block{number}.layer2"}),
        f"block{number}.layer2": (WIDTH, "shared", set()),
    }


def attention(number):
    """The groups of attention."""
    name = f"attention{number}"
    return {
        f"{name}.norm": (WIDTH, "exclusive", {f"{name}.query", f"{name}.key", f"{name}.value"}),
        f"{name}.query": (WIDTH, "partner", set()),
        f"{name}.key": (WIDTH, "partner", set()),
        f"{name}.value": (WIDTH, "exclusive", {f"{name}.out"}),
        f"{name}.out": (WIDTH, "shared", set()),
    }


def layered(depth, heads):
    """The groups of an MLP with LayerNorm, in its order: a layer feeds the next through its norm."""
    groups = {}
    for number in range(1, depth + 1):
        reader = {f"layer{number + 1}"} if number < depth else set(heads)
        groups[f"layer{number}"] = (WIDTH, "through_norm", reader)
        groups[f"norm{number}"] = (WIDTH, "exclusive", reader)
    return groups | {name: (neurons, "head", set()) for name, neurons in heads.items()}


def expected(kind, depth, heads):
    """The groups of a network, in its order."""
    if kind == "mlp_layernorm":
        return layered(depth, heads)
    groups = {}
    if kind == "simba":
        groups["layer"] = (WIDTH, "shared", set())
    else:
        groups |= dict.fromkeys(("tokens.slope", "tokens.intercept"), (WIDTH, "shared", set()))
    for number in range(1, depth + 1):
        groups |= attention(number) if kind == "attention" else {}
        groups |= block(number, WIDE[kind] * WIDTH)
    groups["norm"] = (WIDTH, "exclusive", set(heads))
    return groups | {name: (neurons, "head", set()) for name, neurons in heads.items()}
