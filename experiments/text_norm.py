"""The norm and the learning rate of all but the kernels, where gconv is as deep as in Text's full recipe: six layers.

    python -m experiments.run text_norm --preset= --columns="Text of 512 bytes" --workdir=runs    # 2 hours of two cores
    python -m experiments.run text_norm --preset= --jobs=1 --workdir=runs                         # the rest: a GPU
    python -m experiments.table text_norm --preset= --workdir=runs --output=experiments/records/text_norm

Everything but what stands here is the full recipe's, which has batch norm and a rate of .01: batches, decay, squash,
kernel dropout, the kernels' rate of .001.
"""

from experiments import lra
from experiments.grid import Part, Table

SMALLER = {
    "data.length": 512,
    "model.features": 64,
    "steps": 5000,
    "optim.warmup_steps": 500,
    "eval_every": 500,
    "checkpoint_every": 500,
}

TABLE = Table(
    title="gconv's six layers on Text by norm and learning rate",
    rows={
        f"{norm} norm, rate {rate:g}": Part("gconv", {"model.norm": norm, "optim.lr": rate})
        for norm in ("batch", "layer")
        for rate in (1e-2, 3e-3, 1e-3)
    },
    columns={"Text of 512 bytes": Part("text", SMALLER), "Text": Part("text", lra.BF16)},
    note="Text of 512 bytes: reviews cut there, a width of 64, a tenth of the steps; otherwise the full setting. Text:"
    " the full setting, in bfloat16.",
)
