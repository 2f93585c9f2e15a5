"""What lies beyond the ends, and which way a kernel looks."""

from experiments.grid import Part, Table, rates, with_norms

TABLE = Table(
    title="Boundary and direction of the convolution, gconv's block",
    rows={
        name: Part("gconv", {"model.mixer_options.boundary": name}) for name in ("circular", "causal", "bidirectional")
    },
    columns={"ListOps": Part("listops"), "Text": Part("text"), "Image": Part("image")},
    sweep=with_norms(rates(3e-3, 1e-2), norms=["batch"]),  # with which main finds convolutions best
)
