"""Recall at width 128 after 8,000 steps, twice those of the table of wide recall, each at the rate that it chose."""

from experiments.grid import Part, Table, rates
from experiments.recall_wide import MLP

LOW, MIDDLE = rates(2e-3, 6e-3)
SIZE = {"model.features": 128, "steps": 8_000}

TABLE = Table(
    title="Multi-query associative recall, two causal layers with perceptrons, of width 128 but for a row, 8,000 steps",
    rows={
        "gconv": Part("gconv", {**MLP, **MIDDLE}),
        "gconv, width 64": Part("gconv", {**MLP, **MIDDLE, "model.features": 64}),
        "gconv, plain (the question's)": Part("gconv_plain", {**MLP, **MIDDLE}),
        "attention": Part("attention", {**MLP, **LOW}),
    },
    columns={"MQAR": Part("probes,mqar,small", SIZE), "scattered MQAR": Part("probes,scattered_mqar,small", SIZE)},
    seeds=(0, 1, 2, 3, 4),
    note="Each at the rate that validation chose for width 128 after 4,000 steps of MQAR: gconv .006, attention .002.",
)
