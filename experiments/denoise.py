"""What it is worth to reconstruct corrupted texts beside their label, as a recipe for attention has it."""

from experiments.grid import Part, Table

DENOISE = {"model.denoise": 0.3}

TABLE = Table(
    title="Texts classified, and reconstructed where three tenths of their bytes are corrupted, at equal parameters",
    rows={
        "gconv": Part("gconv,match=parameters"),
        "gconv, denoising": Part("gconv,match=parameters", DENOISE),
        "attention, modern": Part("attention"),
        "attention, modern, denoising": Part("attention", DENOISE),
    },
    columns={"Text for 2000 steps": Part("text,small", {"steps": 2_000, "eval_every": 500})},
    sweep=({"model.norm": "batch", "optim.lr": 1e-2, "optim.kernel_lr": 1e-2},),  # which main chooses for both
    note="Denoising adds to the equal parameters a head and an embedding of masked bytes, which only training needs.",
)
