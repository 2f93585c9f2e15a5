"""The main table: every token mixer on every task, in one block, with equal parameters.

Two cores carry --columns=ListOps,Text,Image in an hour or two, and Pathfinder in about three. `experiments.lra` is the
table of the published settings, at their own rates.
"""

from experiments.grid import Part, Table, rates, with_norms

TASKS = {
    "ListOps": Part("listops"),
    "Text": Part("text"),
    "Image": Part("image"),
    "Retrieval": Part("retrieval"),
    "Pathfinder": Part("pathfinder"),
    "Path-X": Part("pathx"),
}
MIXERS = {
    "gconv": "gconv",
    "gconv, multi-resolution kernel": "gconv,multi_resolution",
    "gconv, Fourier kernel": "gconv,fourier",
    "gconv, plain (the question's)": "gconv_plain",
    "gconv, gated": "gated",
    "gconv + attention (hybrid)": "hybrid",
    "local convolution": "local",
    "state space (S5)": "ssm",
    "MLP-Mixer": "mlp_mixer",
    "FNet": "fnet",
    "attention, modern": "attention",
    "attention, original": "transformer",
}

CONTOURS = "In the small setting Pathfinder has contours of 6 paddles, and five times the steps of the others."

TABLE = Table(
    title="Token mixers by task, each at the width that gives it the parameters of modern attention",
    rows={row: Part(mixer if mixer == "attention" else f"{mixer},match=parameters") for row, mixer in MIXERS.items()},
    columns=TASKS,
    sweep=with_norms(rates(3e-3, 1e-2)),
    note="Hybrid: attention is the second of the small setting's two layers, and every fourth of the full setting's."
    " Local: 15 and 61 taps. Heads ask for widths in steps, so the hybrid has 7 to 21% more parameters than attention."
    f" {CONTOURS}"
    " Plain: conv–GELU–conv and a perceptron, bidirectional; the table of stacks has the question's to the letter.",
)
