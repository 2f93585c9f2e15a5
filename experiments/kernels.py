"""Parameterisations of the kernel, in gconv's block; two cores carry --columns=ListOps,Text,Image."""

from experiments.grid import Part, Table
from experiments.main import CONTOURS, TASKS

TABLE = Table(
    title="Kernel parameterisations by task, gconv's block, one width for all",
    rows={
        "free (LongConv)": Part("gconv"),
        "free, random start": Part("gconv", {"model.mixer_options.kernel_options.decay": False}),
        "free, squash .004": Part("gconv", {"model.mixer_options.kernel_options.squash": 0.004}),
        "multi-scale (SGConv)": Part("gconv,multi_scale"),
        "multi-resolution (MRConv)": Part("gconv,multi_resolution"),
        "implicit (CKConv, Hyena)": Part("gconv,implicit"),
        "diagonal state space (S4D)": Part("gconv,diagonal"),
        "Fourier (GFNet)": Part("gconv,fourier"),
    },
    columns={task: part for task, part in TASKS.items() if task != "Retrieval"},  # whose recipe has that very squash
    sweep=tuple(  # parameterisations move unequally far; main finds convolutions best with that norm and rate
        {"model.norm": "batch", "optim.lr": 1e-2, "optim.kernel_lr": rate} for rate in (3e-3, 1e-2, 3e-2)
    ),
    note=CONTOURS,
)
