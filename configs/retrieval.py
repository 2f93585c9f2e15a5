"""Retrieval: whether one paper of the ACL Anthology cites the other, both read as bytes (Radev et al. 2009).

    python -m gconv.prepare retrieval --source=DIR
    python -m gconv.main --config=configs/retrieval.py:gconv --workdir=runs/retrieval_gconv

The pairs can only be read from LRA's release (Tay et al. 2021), unpacked in DIR; configs/same_film.py is a substitute
of the same form. Papers are cut at 4,000 bytes.

published test accuracy (%): gconv not found task by task in a readable text, gconv,sgconv 91.11 (Li et al. 2022), ssm
91.40 (S5, Smith et al. 2023), attention none by this recipe (pretrained on the tasks' own inputs 86.21 on average, Amos
et al. 2023), attention,miralles not found task by task (85.69 on average but for Path-X, Miralles-González et al.
2025), transformer 57.46 (Tay et al. 2021), 79.14 (re-run for Mega, Ma et al. 2022). Guessing scores 50.
parameters: gconv 13,409,538, gconv,sgconv 1,163,010, ssm 792,450, attention 892,034, attention,miralles 926,978,
transformer 891,778; no count by the authors of these recipes was found.
expected time: the full 50,000 steps need an accelerator and have not been run here; a 2-core CPU would take weeks.
  :MIXER,smoke  under a minute on a CPU, on made-up pairs.
  :transformer,lra  LRA's own file, with its steps and batches.
  :attention,miralles  the file of Miralles-González et al. 2025, with its steps and batches.
  :MIXER,small  one block and recipe for every mixer; for the tables in experiments/.

Both sequences of a pair pass one tower; [u, v, u − v, u ⊙ v] of their features goes to the head.

gconv follows the recipe of LongConv (Fu et al. 2023): 6 × 256, batch norm before each block, AdamW .01 with .0001 for
the kernels, 2.5k of 50k steps warm-up, squash .004, kernel dropout .1. Not as published: one bidirectional kernel a
channel with the paper's exponential start, where the authors' code has two causal ones with a random start. attention
has the shape of Amos et al. 2023, transformer that of Tay et al.; both get gconv's data, steps and batches, with a
learning rate, dropout .1 and gradient clipping of their own. ssm follows S5 (Smith et al. 2023), sgconv the recipe of
SGConv. The other mixers get gconv's.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str | None = None) -> ConfigDict:
    return base.resolve(
        arg, retrieval, {"sgconv": sgconv, "lra": lra, "miralles": miralles}, {"small": small, "smoke": smoke}
    )


def retrieval(config: ConfigDict) -> None:
    config.data.name = "retrieval"
    config.data.length = 4000
    config.steps = 50_000
    config.batch_size = 64
    config.eval_every = 2_500  # about an epoch: validation takes long
    config.optim.warmup_steps = 2_500
    if config.mixer == "attention" or config.mixer == "transformer":
        base.shape(config, 4, 128, heads=4)
    elif config.mixer == "ssm":
        base.shape(config, 6, 128)
        config.model.norm = "batch"
        base.rates(config, 2e-3, 1e-3, 0.05)
        base.s5(config, 128, 16, at_model_rate=("log_step",))
        config.steps, config.batch_size, config.optim.warmup_steps = 92_000, 32, 4_600
    else:
        base.shape(config, 6, 256)
        config.model.norm = "batch"
        base.rates(config, 1e-2, 1e-4, 0.05)
        base.regularize(config, squash=0.004, dropout=0.1)


def sgconv(config: ConfigDict) -> None:
    """SGConv's recipe."""
    base.sgconv(config, width=1, unit=1.2, lr=1e-2, weight_decay=0.05)
    config.optim.warmup_steps = 2_500
    config.model.dropout = 0.0


def lra(config: ConfigDict) -> None:
    """LRA's Transformer by its released file, whose warm-up outlasts its training."""
    base.shape(config, 4, 128, heads=4)
    base.lra(config, steps=5_000, batch_size=32, lr=0.05 / 8_000**0.5, warmup_steps=8_000)


def miralles(config: ConfigDict) -> None:
    """The rotary Transformer by its released file, which reconstructs its texts too."""
    base.shape(config, 6, 128, heads=4)
    base.miralles(config, steps=275_800, batch_size=32, lr=1e-3, weight_decay=0.0, denoise=0.3)


def smoke(config: ConfigDict) -> None:
    base.smoke(config)
    config.data.length = 256


def small(config: ConfigDict) -> None:
    """The first 256 bytes of each paper."""
    base.small(config, length=256)
