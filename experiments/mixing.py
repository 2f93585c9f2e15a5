"""What mixes channels, and what multiplies."""

from experiments.grid import Part, Table

TABLE = Table(
    title="Pointwise mixing and gating around a global convolution",
    rows={
        "conv–GELU–conv, no mixing": Part("gconv_plain", {"model.mlp_ratio": 0.0}),
        "conv–GELU–conv, perceptron": Part("gconv_plain"),
        "conv–GELU–GLU": Part("gconv", {"model.mlp_ratio": 0.0}),
        "conv–GELU–GLU, perceptron": Part("gconv"),
        "gated conv, perceptron": Part("gated"),
    },
    columns={"ListOps": Part("listops"), "Text": Part("text"), "Image": Part("image")},
)
