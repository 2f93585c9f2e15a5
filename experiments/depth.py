"""Depth at fixed parameters: what stacking convolutions is worth."""

from experiments.grid import Part, Table, rates, with_norms

TABLE = Table(
    title="Depth at equal parameters, gconv's block",
    rows={f"{layers} layer{'s' * (layers > 1)}": Part(f"gconv,layers={layers}") for layers in (1, 2, 6, 12, 24)},
    columns={"ListOps": Part("listops")},
    sweep=with_norms(rates(3e-3, 1e-2, 3e-2), norms=["batch"]),
    note="Each is as wide as gives it the parameters of six layers of the config's width, within 6%.",
)
