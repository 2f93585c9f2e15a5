"""Recall at width 128 after 8,000 steps, twice those of the table of wide recall, each at the rate that it chose."""

from experiments.grid import RECALL_RATES, Part, Table
from experiments.recall_wide import MLP

LOW, MIDDLE, _ = RECALL_RATES
SIZE = {"model.features": 128, "steps": 8_000}

TABLE = Table(
    title="Multi-query associative recall, two causal layers of width 128 with perceptrons, 8,000 steps",
    rows={
        "gconv": Part("gconv", {**MLP, **MIDDLE}),
        "gconv, plain (the question's)": Part("gconv_plain", {**MLP, **MIDDLE}),
        "attention": Part("attention", {**MLP, **LOW}),
    },
    columns={"MQAR": Part("probes,mqar,small", SIZE), "scattered MQAR": Part("probes,scattered_mqar,small", SIZE)},
    note="Each at the rate that validation chose for it after 4,000 steps of MQAR, gconv 0.006 and attention 0.002.",
)
