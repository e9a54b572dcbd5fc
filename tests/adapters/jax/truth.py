"""What is true of the models: own patterns, status and what is fed, by group, from how each of them computes."""

INPUT_GATES = ["params/cell/if/kernel", "params/cell/ig/kernel", "params/cell/ii/kernel", "params/cell/io/kernel"]
PROJECTIONS = [
    "attn/key/kernel[neuron out dim]",
    "attn/query/kernel[neuron out dim]",
    "attn/value/kernel[neuron out dim]",
]

TRUTH = {
    "linen images": {
        "params/Conv_0": ("h w in neuron", "exclusive", ["params/Dense_1/kernel[(hw neuron) out]"]),
        "params/Dense_0": ("in neuron", "head", []),
        "params/Dense_1": ("in neuron", "exclusive", ["params/Dense_0/kernel[neuron out]"]),
    },
    "linen residual": {
        "params/Dense_0": ("in neuron", "through_norm", []),
        "params/Dense_1": ("in neuron", "through_norm", ["params/Dense_2/kernel[neuron out]"]),
        "params/Dense_2": ("in neuron", "through_norm", []),
        "params/Dense_3": ("in neuron", "head", []),
        "params/Dense_4": ("in neuron", "head", []),
        "params/LayerNorm_0": ("neuron", "shared", []),
        "params/LayerNorm_1": ("neuron", "exclusive", ["params/Dense_2/kernel[neuron out]"]),
        "params/LayerNorm_2": ("neuron", "shared", []),
    },
    "linen attention": {
        "params/Dense_0": ("in neuron", "shared", []),
        "params/Dense_1": ("in neuron", "head", []),
        "params/LayerNorm_0": ("neuron", "exclusive", [f"params/{view}" for view in PROJECTIONS]),
        "params/attn/key": ("in neuron neuron", "partner", []),
        "params/attn/out": ("head in neuron", "shared", []),
        "params/attn/query": ("in neuron neuron", "partner", []),
        "params/attn/value": ("in neuron neuron", "exclusive", ["params/attn/out/kernel[neuron neuron out]"]),
    },
    "linen twins": {
        "params/critics/Dense_0": ("stack in neuron", "exclusive", ["params/critics/Dense_1/kernel[stack neuron out]"]),
        "params/critics/Dense_1": ("stack in neuron", "exclusive", ["params/critics/Dense_2/kernel[stack neuron out]"]),
        "params/critics/Dense_2": ("stack in neuron", "head", []),
    },
    "linen tokens": {
        "params/BatchNorm_0": ("neuron", "exclusive", ["params/Dense_1/kernel[neuron out]"]),
        "params/Conv_0": ("k in neuron", "exclusive", ["params/Dense_0/kernel[neuron out]"]),
        "params/Dense_0": ("in neuron", "exclusive", ["params/Dense_1/kernel[neuron out]"]),
        "params/Dense_1": ("in neuron", "head", []),
        "params/Embed_0": ("vocabulary neuron", "exclusive", ["params/Conv_0/kernel[k neuron out]"]),
    },
    "linen lstm": {
        "params/Dense_0": ("in neuron", "exclusive", [f"{gate}[neuron out]" for gate in INPUT_GATES]),
        "params/Dense_1": ("in neuron", "head", []),
        "params/cell": (
            ", ".join(["in neuron"] * 4 + ["other neuron"] * 4),
            "exclusive",
            [*(f"params/cell/h{gate}/kernel[neuron other]" for gate in "fgio"), "params/Dense_1/kernel[neuron out]"],
        ),
    },
    "nnx": {
        "attn/key": ("in neuron neuron", "partner", []),
        "attn/out": ("head in neuron", "exclusive", ["cell/dense_i/kernel[neuron (gate out)]"]),
        "attn/query": ("in neuron neuron", "partner", []),
        "attn/value": ("in neuron neuron", "exclusive", ["attn/out/kernel[neuron neuron out]"]),
        "cell": (
            "in (gate neuron), other (gate neuron)",
            "exclusive",
            ["cell/dense_h/kernel[neuron (gate other)]", "out/kernel[neuron out]"],
        ),
        "layers/0": ("in neuron", "exclusive", ["layers/1/kernel[neuron out]"]),
        "layers/1": ("in neuron", "through_norm", PROJECTIONS),
        "norm": ("neuron", "exclusive", PROJECTIONS),
        "out": ("in neuron", "head", []),
    },
    "equinox images": {
        "conv": ("neuron in h w", "through_norm", ["layers/0/weight[out (neuron hw)]"]),
        "norm": ("neuron", "exclusive", ["layers/0/weight[out (neuron hw)]"]),
        "layers/0": ("neuron in", "exclusive", ["layers/1/weight[out neuron]"]),
        "layers/1": ("neuron in", "head", []),
    },
    "equinox gated": {
        "left": ("neuron in k", "exclusive", ["out/weight[out (neuron hw)]"]),
        "right": ("neuron in k", "exclusive", ["out/weight[out (neuron hw)]"]),
        "out": ("neuron in", "head", []),
    },
    "equinox sequence": {
        "embedding": (
            "vocabulary neuron",
            "exclusive",
            [f"attn/{part}_proj/weight[out neuron]" for part in ("query", "key", "value")],
        ),
        "attn/query_proj": ("neuron in", "partner", []),
        "attn/key_proj": ("neuron in", "partner", []),
        "attn/value_proj": ("neuron in", "exclusive", ["attn/output_proj/weight[out neuron]"]),
        "attn/output_proj": ("neuron in", "exclusive", ["cell/weight_ih[(gate out) neuron]"]),
        "cell": (
            "(gate neuron) in, (gate neuron) other",
            "exclusive",
            ["cell/weight_hh[(gate other) neuron]", "out/weight[out neuron]"],
        ),
        "out": ("neuron in", "head", []),
    },
    "equinox twins": {
        "layers/0": ("stack neuron in", "exclusive", ["layers/1/weight[stack out neuron]"]),
        "layers/1": ("stack neuron in", "exclusive", ["layers/2/weight[stack out neuron]"]),
        "layers/2": ("stack neuron in", "head", []),
    },
    "haiku images": {
        "batch_norm": ("one1 one2 one3 neuron", "exclusive", ["mlp/~/linear_0/w[(hw neuron) out]"]),
        "conv2_d": ("h w in neuron", "exclusive", ["conv2_d_transpose/w[h w out neuron]"]),
        "conv2_d_transpose": ("h w neuron in", "exclusive", ["mlp/~/linear_0/w[(hw neuron) out]"]),
        "mlp/~/linear_0": ("in neuron", "exclusive", ["mlp/~/linear_1/w[neuron out]"]),
        "mlp/~/linear_1": ("in neuron", "head", []),
    },
    "haiku lstm": {
        "embed": ("vocabulary neuron", "exclusive", ["lstm/linear/w[neuron (gate out)]"]),
        "linear": ("in neuron", "head", []),
        "lstm": (
            "in (gate neuron)",
            "exclusive",
            ["lstm/linear/w[neuron (gate other)]", "linear/w[neuron out]"],
        ),
    },
}
