"""Recall at the smallest size of the published figure, for a quarter of its passes and for all of them.

    python -m experiments.run recall_published --preset= --workdir=runs    # on one core half an hour or two hours a run

Four pairs in 64 tokens of 8,192 kinds, 100,000 sequences, two layers of width 64 (Arora et al. 2023, figure 2): all as
in configs/probes.py, but for a column of 16 passes in the place of 64. That is the full setting; the small one is
smaller than the title says.
"""

from experiments.grid import Part, Table
from experiments.recall_gated import UNIT

TRAINING = {"steps": 6_250, "optim.warmup_steps": 625, "eval_every": 391, "checkpoint_every": 391, "log_every": 100}

TABLE = Table(
    title="Multi-query associative recall, 64 tokens of 8,192 kinds, two causal layers of width 64",
    rows={
        f"{name}, rate {lr:g}": Part(mixer, {**options, "optim.lr": lr, "optim.kernel_lr": lr})
        for name, mixer, options in (("gconv, gated", "gated", UNIT), ("attention", "attention", {}))
        for lr in (5e-4, 2e-3, 6e-3)
    },
    columns={"16 passes": Part("probes,mqar", TRAINING), "64 passes": Part("probes,mqar")},
    note="Kernels start with taps of standard deviation 1 and don't decay.",
)
