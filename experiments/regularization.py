"""What holds a free kernel back."""

from typing import Any

from experiments.grid import Part, Table

KERNEL = "model.mixer_options.kernel_options"
NONE: dict[str, Any] = {
    "optim.kernel_weight_decay": 0.0,
    f"{KERNEL}.dropout": 0.0,
    f"{KERNEL}.squash": 0.0,
    f"{KERNEL}.smooth": 0,
}

LONGER = {"steps": 2_000, "eval_every": 500}  # six times through the training set: what holds back needs time to

CHANGES: dict[str, dict[str, Any]] = {
    "none": {},
    "weight decay .05": {"optim.kernel_weight_decay": 0.05},
    "weight decay .5": {"optim.kernel_weight_decay": 0.5},
    "dropout .1": {f"{KERNEL}.dropout": 0.1},
    "dropout .3": {f"{KERNEL}.dropout": 0.3},
    "squash .001": {f"{KERNEL}.squash": 0.001},
    "squash .004": {f"{KERNEL}.squash": 0.004},
    "squash .016": {f"{KERNEL}.squash": 0.016},
    "smoothed over 3": {f"{KERNEL}.smooth": 1},
}

TABLE = Table(
    title="Regularisation of a free kernel, gconv's block",
    rows={name: Part("gconv", NONE | change) for name, change in CHANGES.items()},
    columns={"ListOps": Part("listops"), "Text": Part("text"), "Image for 2000 steps": Part("image,small", LONGER)},
    sweep=({"model.norm": "batch", "optim.lr": 1e-2, "optim.kernel_lr": 1e-2},),  # which main chooses for it throughout
)
