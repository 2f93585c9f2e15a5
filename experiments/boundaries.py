"""What lies beyond the ends, and which way a kernel looks."""

from experiments.grid import RATES, Part, Table, with_norms

TABLE = Table(
    title="Boundary and direction of the convolution, gconv's block",
    rows={
        name: Part("gconv", {"model.mixer_options.boundary": name}) for name in ("circular", "causal", "bidirectional")
    },
    columns={"ListOps": Part("listops"), "Text": Part("text"), "Image": Part("image")},
    sweep=with_norms(RATES[1:3], norms=["batch"]),  # with which main finds convolutions best
)
