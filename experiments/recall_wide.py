"""Recall at the width at which convolutions begin to answer: four times that of the table of recall, and twice as long.

Every row but the one that asks what the perceptron does has one, the only part of the plain form that mixes channels.
"""

from experiments.grid import Part, Table, rates

MLP = {"model.mlp_ratio": 2.0}

TABLE = Table(
    title="Multi-query associative recall, two causal layers of width 128 with perceptrons, 4,000 steps",
    rows={
        "gconv": Part("gconv", MLP),
        "gconv, batch norm": Part("gconv", {**MLP, "model.norm": "batch"}),
        "gconv, no perceptron": Part("gconv"),
        "gconv, plain (the question's)": Part("gconv_plain", MLP),
        "gconv, gated": Part("gated", MLP),
        "attention": Part("attention", MLP),
    },
    columns={"MQAR": Part("probes,mqar,small", {"model.features": 128, "steps": 4_000})},
    sweep=rates(2e-3, 6e-3, 2e-2),
    control=("attention",),
    note="That a model guesses counts in a column that attention has learnt.",
)
