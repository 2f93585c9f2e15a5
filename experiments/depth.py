"""Depth at fixed parameters: what stacking convolutions is worth."""

from experiments.grid import Part, Table

WIDTHS = {1: 90, 2: 62, 6: 32, 12: 20, 24: 12}  # of equal parameters, within 6%, on ListOps' preset `small`

TABLE = Table(
    title="Depth at about 62,000 parameters, gconv's block",
    rows={
        f"{layers} × {width}": Part("gconv", {"model.layers": layers, "model.features": width})
        for layers, width in WIDTHS.items()
    },
    columns={"ListOps": Part("listops")},
)
