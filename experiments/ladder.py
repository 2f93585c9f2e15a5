"""The ladder from convolution to attention: a step at a time from tied weights to weights that depend on the data.

An untied matrix for each channel takes length² · width weights a layer: 4 billion in all at ListOps' full length.
"""

from experiments.grid import Part, Table, rates, with_norms

BOUNDARY = "model.mixer_options.boundary"
PERCEPTRON = {"model.mlp_ratio": 2.0}
BOTH_WAYS = {"model.mixer_options.causal": False}  # as every other rung, in recall too

TABLE = Table(
    title="From convolution to attention, in one block with a perceptron",
    rows={
        "circulant (circular convolution)": Part("gconv", {BOUNDARY: "circular", **PERCEPTRON}),
        "Toeplitz (convolution)": Part("gconv", {BOUNDARY: "bidirectional", **PERCEPTRON}),
        "displacement rank 4": Part("matrix", {"model.mixer_options.rank": 4, **PERCEPTRON}),
        "untied matrix, one a channel": Part("matrix", PERCEPTRON),
        "untied matrix, one for all": Part("matrix", {"model.mixer_options.shared": True, **PERCEPTRON}),
        "token perceptron, GELU and GLU": Part("mlp_mixer_glu", PERCEPTRON),
        "attention, GELU and GLU": Part("attention_glu", {**BOTH_WAYS, **PERCEPTRON}),
        "token perceptron (MLP-Mixer)": Part("mlp_mixer", PERCEPTRON),
        "attention": Part("attention", {**BOTH_WAYS, **PERCEPTRON}),
    },
    columns={"ListOps": Part("listops"), "MQAR": Part("probes,mqar")},
    sweep=with_norms(rates(3e-3, 1e-2, 3e-2)),
    control=("attention", "attention, GELU and GLU"),
    note="All but the last two rows share what follows the mixing of tokens: GELU, then a gated linear unit. All look"
    " both ways. That a rung guesses counts in a column that attention has learnt; MQAR it learns if it is causal.",
)
