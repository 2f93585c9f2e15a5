"""How much of an accuracy kernels of K taps reach: the locality certificate of a task."""

from experiments.grid import Part, Table, rates, with_norms
from experiments.main import CONTOURS

TABLE = Table(
    title="Accuracy against the number of taps, gconv's block with a perceptron",
    rows={
        f"{taps or 'all'} taps": Part("gconv", {"model.mixer_options.taps": taps, "model.mlp_ratio": 2.0})
        for taps in (1, 3, 7, 15, 31, 63, 127, 0)
    },
    columns={
        "ListOps": Part("listops"),
        "Text": Part("text"),
        "Image": Part("image"),
        "Pathfinder": Part("pathfinder"),
    },
    sweep=with_norms(rates(3e-3, 1e-2), norms=["batch"]),  # with which main finds convolutions best
    note=f"A task on which few taps do as well as all says nothing about long range. {CONTOURS}",
)
