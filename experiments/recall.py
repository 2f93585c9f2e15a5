"""Recall: which mixers answer with the value that stood beside a key, and what mends those that don't."""

from experiments.grid import Part, Table, rates

MLP = {"model.mlp_ratio": 2.0}

TABLE = Table(
    title="Multi-query associative recall, two layers, all but MLP-Mixer causal",
    rows={
        "gconv": Part("gconv"),
        "gconv, perceptron": Part("gconv", MLP),
        "gconv, plain (the question's), perceptron": Part("gconv_plain"),
        "gconv, gated": Part("gated"),
        "gconv, gated, perceptron": Part("gated", MLP),
        "kernel made of the content, gated": Part("content"),
        "gconv, then attention": Part("hybrid"),
        "attention, short convolution": Part("attention", {"model.mixer_options.short_conv": True}),
        "attention": Part("attention"),
        "MLP-Mixer": Part("mlp_mixer"),
    },
    columns={
        "MQAR": Part("probes,mqar"),
        "scattered MQAR": Part("probes,scattered_mqar"),
    },
    seeds=(0, 1, 2, 3, 4),
    sweep=rates(2e-3, 6e-3, 2e-2),
    control=("attention", "attention, short convolution"),
    note="That a model guesses counts in a column that attention, with or without a short convolution, has learnt: its"
    " transition comes late. In the small setting layers are 32 wide.",
)
