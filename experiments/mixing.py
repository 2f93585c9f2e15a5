"""What mixes channels, and what multiplies."""

from experiments.grid import Part, Table, rates, with_norms

NONE, PERCEPTRON = {"model.mlp_ratio": 0.0}, {"model.mlp_ratio": 2.0}

TABLE = Table(
    title="Pointwise mixing and gating around a global convolution",
    rows={
        "conv–GELU–conv, no mixing": Part("gconv_plain", NONE),
        "conv–GELU–conv, perceptron": Part("gconv_plain", PERCEPTRON),
        "conv–GELU–GLU": Part("gconv", NONE),
        "conv–GELU–GLU, perceptron": Part("gconv", PERCEPTRON),
        "gated conv, perceptron": Part("gated", PERCEPTRON),
    },
    columns={"ListOps": Part("listops"), "Text": Part("text"), "Image": Part("image")},
    sweep=with_norms(rates(3e-3, 1e-2)),
)
