"""Recall at the smallest size of the published figure, for an eighth and a quarter of its passes.

    python -m experiments.run recall_published --preset= --workdir=runs

Four pairs in 64 tokens of 8,192 kinds, 100,000 sequences, two layers of width 64 (Arora et al. 2023, figure 2): all as
in configs/probes.py, but for 8 or 16 passes in the place of 64. That is the full setting; the small one is smaller than
the title says.
"""

from experiments.grid import Part, Table
from experiments.recall_gated import UNIT

A_PASS = 100_000 / 256  # steps


def passes(n: int) -> Part:
    steps = int(n * A_PASS)
    training = {"steps": steps, "optim.warmup_steps": steps // 10, "log_every": 100}
    return Part("probes,mqar", {**training, "eval_every": 391, "checkpoint_every": 391})


def rate(lr: float) -> dict[str, float]:
    return {"optim.lr": lr, "optim.kernel_lr": lr}


TABLE = Table(
    title="Multi-query associative recall, 64 tokens of 8,192 kinds, two causal layers of width 64",
    rows={
        "gconv, gated, rate .002": Part("gated", {**UNIT, **rate(2e-3)}),
        "gconv, gated, rate .006": Part("gated", {**UNIT, **rate(6e-3)}),
        "attention, rate .002": Part("attention", rate(2e-3)),
        "attention, rate .006": Part("attention", rate(6e-3)),
    },
    columns={"8 passes": passes(8), "16 passes": passes(16)},
    note="That a model guesses counts in a column that attention has learnt. Kernels start with taps of standard"
    " deviation 1 and don't decay.",
)
