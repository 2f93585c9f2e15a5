"""What holds a free kernel back."""

from experiments.grid import Part, Table

KERNEL = "model.mixer_options.kernel_options"

TABLE = Table(
    title="Regularisation of a free kernel, gconv's block",
    rows={
        "none": Part("gconv"),
        "weight decay .05": Part("gconv", {"optim.kernel_weight_decay": 0.05}),
        "weight decay .5": Part("gconv", {"optim.kernel_weight_decay": 0.5}),
        "dropout .1": Part("gconv", {f"{KERNEL}.dropout": 0.1}),
        "dropout .3": Part("gconv", {f"{KERNEL}.dropout": 0.3}),
        "squash .001": Part("gconv", {f"{KERNEL}.squash": 0.001}),
        "squash .004": Part("gconv", {f"{KERNEL}.squash": 0.004}),
        "smoothed over 3": Part("gconv", {f"{KERNEL}.smooth": 1}),
    },
    columns={"ListOps": Part("listops"), "Text": Part("text")},
)
