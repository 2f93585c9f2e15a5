"""Recall at width 128 after 8,000 steps, twice those of the table of wide recall, each at the rate that it chose."""

from experiments.grid import Part, Table, rates
from experiments.recall_gated import UNIT
from experiments.recall_wide import MLP

LOW, MIDDLE = rates(2e-3, 6e-3)
SIZE = {"model.features": 128, "steps": 8_000}

TABLE = Table(
    title="Multi-query associative recall, two causal layers of width 128 but for a row, 8,000 steps",
    rows={
        "gconv": Part("gconv", {**MLP, **MIDDLE}),
        "gconv, width 64": Part("gconv", {**MLP, **MIDDLE, "model.features": 64}),
        "gconv, plain (the question's)": Part("gconv_plain", {**MLP, **MIDDLE}),
        "gconv, gated, no perceptron": Part("gated", {**UNIT, **LOW}),
        "attention": Part("attention", {**MLP, **LOW}),
    },
    columns={
        "MQAR": Part("probes,mqar,small", SIZE),
        "scattered MQAR": Part("probes,scattered_mqar,small", SIZE),
        "MQAR with blanks": Part("probes,mqar,small", {**SIZE, "model.positions": "none", "data.options.blanks": True}),
    },
    seeds=(0, 1, 2, 3, 4),
    note="With perceptrons, but for the gated one. Each at the rate that validation chose for width 128 after 4,000"
    " steps: gconv .006, attention and the gated one .002, whose kernels start with taps of standard deviation 1 and"
    " don't decay. With blanks between pairs and queries no position is added to the embeddings.",
)
