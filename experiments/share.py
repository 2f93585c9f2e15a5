"""How many of the layers must be attention."""

from experiments.grid import Part, Table, rates, with_norms

TABLE = Table(
    title="Attention as every N-th of four layers, the others gconv",
    rows={
        "no attention": Part("gconv", {"model.layers": 4}),
        "one layer in four": Part("hybrid", {"model.layers": 4, "model.interleave.every": 4}),
        "two layers in four": Part("hybrid", {"model.layers": 4, "model.interleave.every": 2}),
        "attention only": Part("attention", {"model.layers": 4}),
    },
    columns={"ListOps": Part("listops"), "Image": Part("image"), "MQAR": Part("probes,mqar")},
    sweep=with_norms(rates(3e-3, 1e-2)),
)
