"""Layer norm or batch norm, gconv beside attention."""

from experiments.grid import Part, Table

TABLE = Table(
    title="Layer norm and batch norm before each half of a block, gconv beside attention",
    rows={
        f"{name}, {norm} norm": Part(mixer, {"model.norm": norm})
        for name, mixer in (("gconv", "gconv"), ("attention", "attention"))
        for norm in ("layer", "batch")
    },
    columns={"ListOps": Part("listops"), "Text": Part("text"), "Image": Part("image")},
    note="All other tables of the small setting have layer norm.",
)
