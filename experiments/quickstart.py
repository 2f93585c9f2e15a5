"""What the quickstart compares, over three seeds and with each mixer's norm and rate, which it takes from here."""

from experiments.grid import Part, Table, rates, with_norms

# The fields that configs/listops.py:quickstart changes in its small setting.
SIZE = {
    "model.layers": 4,
    "model.features": 64,
    "model.mixer_options.heads": 4,
    "model.mlp_ratio": 4.0,
    "data.limit": 0,
    "batch_size": 64,
    "eval_every": 100,
    "checkpoint_every": 100,
    "log_every": 20,
}

TABLE = Table(
    title="gconv and attention at the quickstart's size: four layers of width 64, all of the short expressions",
    rows={
        "gconv": Part("gconv", {field: value for field, value in SIZE.items() if "heads" not in field}),
        "attention": Part("attention", SIZE),
    },
    columns={"ListOps": Part("listops,small")},
    sweep=with_norms(rates(1e-3, 3e-3, 1e-2, 3e-2)),
)
