"""The ladder from convolution to attention: a step at a time from tied weights to weights that depend on the data."""

from experiments.grid import Part, Table

BOUNDARY = "model.mixer_options.boundary"

TABLE = Table(
    title="From convolution to attention, in one block with a perceptron",
    rows={
        "circulant (circular convolution)": Part("gconv", {BOUNDARY: "circular"}),
        "Toeplitz (convolution)": Part("gconv", {BOUNDARY: "bidirectional"}),
        "displacement rank 4": Part("matrix", {"model.mixer_options.rank": 4}),
        "untied matrix, one a channel": Part("matrix"),
        "untied matrix, one for all": Part("matrix", {"model.mixer_options.shared": True}),
        "token perceptron (MLP-Mixer)": Part("mlp_mixer"),
        "attention": Part("attention"),
    },
    columns={"ListOps": Part("listops")},
    sweep=tuple({"optim.lr": lr, "optim.kernel_lr": lr} for lr in (1e-3, 3e-3)),
    note="All but the last two rows share conv–GELU–GLU: tokens mixed linearly, channel by channel, then channels.",
)
