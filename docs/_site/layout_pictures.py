"""Pictures of layouts: which entries of a network's arrays a reset of one neuron writes.

``python docs/_site/layout_pictures.py`` draws them into ``docs/images/layouts``. The library itself says what belongs
to a neuron: each picture is a reset of one neuron, of arrays of 0.5 with fresh values of 1, so incoming entries become
1 and outgoing ones 0.
"""

from html import escape
from pathlib import Path

import numpy as np

import neuroactivity as na

IMAGES = Path(__file__).parents[1] / "images" / "layouts"
CELL, GAP, ROW = 13, 34, 110
INCOMING, OUTGOING, REST = "#00897b", "#e65100", "#eceff1"
STYLE = (
    "text{font:13px system-ui,Helvetica,Arial,sans-serif;fill:#263238;text-anchor:middle}"
    ".small{font-size:11px;fill:#546e7a}"
)

Shapes = dict[str, tuple[int, ...]]


def networks() -> dict[str, tuple[str, na.Layout, Shapes, str, int]]:
    """For each picture: its title, a layout, the shapes of the arrays, the group and the neuron."""
    dense = na.dense(
        "fc1", weight=("fc1.weight", "neuron in"), bias="fc1.bias", outgoing=[("fc2.weight", "out neuron")]
    )
    conv = na.conv(
        "conv", weight=("conv.weight", "neuron in h w"), bias="conv.bias", outgoing=[("fc.weight", "out (neuron hw)")]
    )
    stream = na.residual(
        "stream",
        writers=[("embed.weight", "neuron in"), ("block.fc2.weight", "neuron in")],
        readers=[("block.fc1.weight", "out neuron"), ("head.weight", "out neuron")],
    )
    heads = na.attention(
        "attn", heads=3, qkv=("qkv.weight", "(qkv neuron dim) in", {"qkv": 3}), output=("o.weight", "out (neuron dim)")
    )
    lstm = na.recurrent("lstm", input="weight_ih", recurrent="weight_hh", biases=["bias"], gates=4)
    twins = na.dense(
        "fc1", weight=("fc1.kernel", "stack in neuron"), bias="fc1.bias", outgoing=[("fc2.kernel", "stack neuron out")]
    )
    norm = na.norm("ln", scale="ln.weight", shift="ln.bias", outgoing=[("fc2.weight", "out neuron")])
    return {
        "dense": (
            "Dense: a row, its bias, a column of the next layer",
            na.Layout([dense]),
            {"fc1.weight": (6, 4), "fc1.bias": (6,), "fc2.weight": (3, 6)},
            "fc1",
            2,
        ),
        "convolution": (
            "Convolution in front of a flattened dense layer, channels first",
            na.Layout([conv]),
            {"conv.weight": (4, 2, 2, 2), "conv.bias": (4,), "fc.weight": (3, 16)},
            "conv",
            1,
        ),
        "residual": (
            "A feature of a residual stream: a row of every writer, a column of every reader",
            na.Layout([stream]),
            {"embed.weight": (5, 3), "block.fc1.weight": (6, 5), "block.fc2.weight": (5, 6), "head.weight": (2, 5)},
            "stream",
            1,
        ),
        "attention": (
            "An attention head in a fused projection: its queries, keys and values",
            na.Layout([heads]),
            {"qkv.weight": (18, 6), "o.weight": (6, 6)},
            "attn",
            1,
        ),
        "recurrent": (
            "A unit of an LSTM: four gates, and what the next step reads",
            na.Layout([lstm]),
            {"weight_ih": (12, 4), "weight_hh": (12, 3), "bias": (12,)},
            "lstm",
            1,
        ),
        "stack": (
            "Twin critics in one array: a neuron of the second member, channels last",
            na.Layout([twins]),
            {"fc1.kernel": (2, 3, 5), "fc1.bias": (2, 5), "fc2.kernel": (2, 5, 2)},
            "fc1",
            5 + 3,
        ),
        "norm": (
            "A feature of a LayerNorm: scale, shift, a column of the next layer",
            na.Layout([norm]),
            {"ln.weight": (6,), "ln.bias": (6,), "fc2.weight": (3, 6)},
            "ln",
            4,
        ),
    }


def picture(title: str, layout: na.Layout, shapes: Shapes, group: str, neuron: int) -> str:
    """An SVG of all arrays, side by side."""
    params = {name: np.full(shape, 0.5) for name, shape in shapes.items()}
    fresh = {name: np.ones(shape) for name, shape in shapes.items()}
    mask = np.zeros(layout[group].bind(shapes).shape, bool)
    mask.flat[neuron] = True
    written = na.reset(params, fresh, {group: mask}, layout)

    drawn, left, height = [], GAP, 0.0
    for name, array in written.items():
        cells, width, depth = grid(array, left)
        label = max(width, 7.5 * len(name))
        centre = left + label / 2
        cells, *_ = grid(array, left + (label - width) / 2)
        shape = " x ".join(map(str, array.shape))
        drawn.append(
            f'<text x="{centre:g}" y="52">{escape(name)}</text>{cells}'
            f'<text class="small" x="{centre:g}" y="{depth + 86:g}">{shape}</text>'
        )
        left, height = left + label + GAP, max(height, depth)
    return page(title, "\n".join(drawn), max(left, 8 * len(title)), height + ROW)


def grid(array: np.ndarray, left: float) -> tuple[str, float, float]:
    """An array as coloured cells: last two axes, or their blocks, in rows and columns; and its width and height."""
    table = array.reshape(-1, 1) if array.ndim == 1 else array
    if table.ndim == 3:  # members one below the other
        table = np.concatenate([member for part in table for member in (part, np.full((1, part.shape[1]), np.nan))])[
            :-1
        ]
    if table.ndim == 4:  # kernels: a row of blocks for each output channel
        rows, columns, h, w = table.shape
        spaced = np.full((rows, columns, h + 1, w + 1), np.nan)
        spaced[:, :, :h, :w] = table
        table = spaced.transpose(0, 2, 1, 3).reshape(rows * (h + 1), columns * (w + 1))[:-1, :-1]
    cells = []
    for (row, column), value in np.ndenumerate(table):
        if not np.isnan(value):
            colour = INCOMING if value == 1 else OUTGOING if value == 0 else REST
            place = f'x="{left + column * CELL:g}" y="{64 + row * CELL}"'
            cells.append(f'<rect {place} width="{CELL - 1}" height="{CELL - 1}" fill="{colour}"/>')
            if value == 0:  # also told apart without colours
                cells.append(f'<path d="M{left + column * CELL + 3:g} {70 + row * CELL}h6" stroke="#fff"/>')
    return "".join(cells), table.shape[1] * CELL, table.shape[0] * CELL


def page(title: str, drawn: str, width: float, height: float) -> str:
    """The whole picture, with its title for those who do not see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{escape(title)}">\n<style>{STYLE}</style>\n<rect width="{width:g}" height="{height:g}" rx="6" '
        f'fill="#fff"/>\n<text x="{width / 2:g}" y="24">{escape(title)}</text>\n{drawn}\n</svg>\n'
    )


if __name__ == "__main__":
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, network in networks().items():
        (IMAGES / f"{name}.svg").write_text(picture(*network))
