"""Recall at the smallest size of the published figure, for an eighth of its passes.

    python -m experiments.run recall_published --preset= --workdir=runs

Four pairs in 64 tokens of 8,192 kinds, 100,000 sequences, two layers of width 64 (Arora et al. 2023, figure 2): all as
in configs/probes.py, but for 8 passes in the place of 64. That is the full setting; the small one is smaller than the
title says. Not run yet.
"""

from experiments.grid import Part, Table, rates
from experiments.recall import MLP
from experiments.recall_gated import UNIT

TRAINING = {"steps": 3_125, "optim.warmup_steps": 312, "eval_every": 391, "checkpoint_every": 391, "log_every": 100}

TABLE = Table(
    title="Multi-query associative recall, 64 tokens of 8,192 kinds, two causal layers of width 64, eight passes",
    rows={
        "gconv, gated": Part("gated", UNIT),
        "gconv": Part("gconv", UNIT),
        "attention": Part("attention"),
        "gconv, perceptron": Part("gconv", {**UNIT, **MLP}),
        "gconv, gated, kernels from .02": Part("gated"),
    },
    columns={"MQAR": Part("probes,mqar", TRAINING)},
    sweep=rates(2e-3, 6e-3),
    control=("attention",),
    note="That a model guesses counts in a column that attention has learnt. Kernels start with taps of standard"
    " deviation 1 and don't decay, or, where a row says so, at .02.",
)
