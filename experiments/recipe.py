"""What the published recipes of convolutions set apart for the kernel: its learning rate, where it starts, how long."""

from experiments.grid import Part, Table
from experiments.regularization import LONGER

KERNEL = "model.mixer_options.kernel_options"
RATE = 0.01

TABLE = Table(
    title="The kernel's own learning rate and first scale, gconv's block with batch norm at a learning rate of .01",
    rows={
        **{f"rate {rate:g}": Part("gconv", {"optim.kernel_lr": rate}) for rate in (0.0, 1e-4, 1e-3, 3e-3, RATE, 3e-2)},
        **{
            f"scale {scale:g}": Part("gconv", {"optim.kernel_lr": RATE, f"{KERNEL}.scale": scale})
            for scale in (0.002, 0.2)
        },
    },
    columns={"ListOps": Part("listops"), "Text": Part("text"), "Image for 2000 steps": Part("image,small", LONGER)},
    sweep=({"model.norm": "batch", "optim.lr": RATE},),  # which main chooses
    note="Where a row names one of them, the other is as in main: rate .01, scale .02.",
)
