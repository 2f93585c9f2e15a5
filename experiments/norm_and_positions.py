"""Where the norm stands, and what a position is told."""

from experiments.grid import Part, Table

TABLE = Table(
    title="Norm and positional embedding, gconv beside attention",
    rows={
        f"{name}, {norm}-norm, {positions}": Part(
            mixer, {"model.norm_first": norm == "pre", "model.positions": embedding, **more}
        )
        for name, mixer, more in (
            ("gconv", "gconv", {}),
            ("attention without rotation", "attention", {"model.mixer_options.rotary": False}),
            ("attention, rotary", "attention", {}),
        )
        for norm in ("pre", "post")
        for positions, embedding in (("no positions", "none"), ("sinusoidal", "sinusoidal"))
    },
    columns={"ListOps": Part("listops")},
)
