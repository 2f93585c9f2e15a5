"""The main table: every token mixer on every task, in one block, with equal parameters."""

from experiments.grid import Part, Table

MIXERS = {
    "gconv": "gconv",
    "gconv, plain (the question's)": "gconv_plain",
    "gconv, gated": "gated",
    "gconv + attention, 1 : 1": "hybrid",
    "convolution of 15 taps": "local",
    "state space (S5)": "ssm",
    "MLP-Mixer": "mlp_mixer",
    "FNet": "fnet",
    "attention, modern": "attention",
    "attention, original": "transformer",
}

TABLE = Table(
    title="Token mixers by task, each at the width that gives it the parameters of modern attention",
    rows={row: Part(mixer if mixer == "attention" else f"{mixer},match=parameters") for row, mixer in MIXERS.items()},
    columns={"ListOps": Part("listops"), "Text": Part("text"), "Image": Part("image")},
    sweep=tuple({"optim.lr": lr, "optim.kernel_lr": lr} for lr in (1e-3, 3e-3)),
)
