"""Recall by gates whose kernels start at the scale of what they multiply, with blanks between the pairs.

Between pairs and queries stands token 0, as in the configs of the figure of Arora et al. 2023, and no position is added
to the embeddings, as there for all mixers but attention, which is rotary here.
"""

from experiments.grid import Part, Table, rates
from experiments.recall import MLP

UNIT = {"model.mixer_options.kernel_options.scale": 1.0, "model.mixer_options.kernel_options.decay": False}
SIZE = {"model.features": 128, "steps": 4_000, "model.mlp_ratio": 0.0, "model.positions": "none"}

TABLE = Table(
    title="Multi-query associative recall with blanks between pairs and queries, two causal layers of width 128",
    rows={
        "gconv, gated": Part("gated", UNIT),
        "gconv, perceptron": Part("gconv", {**UNIT, **MLP}),
        "attention": Part("attention"),
        "gconv": Part("gconv", UNIT),
        "gconv, gated, kernels from .02": Part("gated"),
        "gconv, perceptron, kernels from .02": Part("gconv", MLP),
    },
    columns={"MQAR": Part("probes,mqar,small", {**SIZE, "data.options.blanks": True})},
    sweep=rates(2e-3, 6e-3),
    control=("attention",),
    note="That a model guesses counts in a column that attention has learnt. Kernels start with taps of standard"
    " deviation 1 and don't decay, or, where a row says so, as in all other tables, at .02.",
)
