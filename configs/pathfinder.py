"""Pathfinder: whether two dots lie on one dashed contour, 32 × 32 pixels read one by one (Linsley et al. 2018).

    python -m gconv.main --config=configs/pathfinder.py:gconv --workdir=runs/pathfinder_gconv

200,000 images are generated the first time, some minutes on 2 cores, with the parameters of LRA's hard split (Tay et
al. 2021), or 108,000 of shorter contours for `small`. They are not LRA's own, and results say so; python -m
gconv.prepare pathfinder --source=DIR reads LRA's from its release.

published test accuracy (%): gconv not found task by task in a readable text, gconv,sgconv 95.46 (Li et al. 2022), ssm
95.33 (S5, Smith et al. 2023), attention none by this recipe (pretrained on the tasks' own inputs 86.21 on average, Amos
et al. 2023), attention,miralles not found task by task (85.69 on average but for Path-X, Miralles-González et al.
2025), transformer 71.40 (Tay et al. 2021), 71.83 (re-run for Mega, Ma et al. 2022). Guessing scores 50.
parameters: gconv 3,939,842, gconv,sgconv 1,385,474, ssm 1,113,986, attention 793,858, attention,miralles 795,650,
transformer 50,946; no count by the authors of these recipes was found.
expected time: the full 500,000 steps need an accelerator and have not been run here; a 2-core CPU would take weeks.
  :MIXER,smoke  under a minute on a CPU.
  :transformer,lra  LRA's own file, with its steps and batches.
  :attention,miralles  the file of Miralles-González et al. 2025, with its steps and batches.
  :MIXER,small  one block and recipe for every mixer, on shorter contours; for the tables in experiments/.

gconv follows the recipe of LongConv (Fu et al. 2023): 6 × 256, batch norm before each block, no dropout, AdamW .004
with .001 for the kernels, weight decay .03, 2.5k of 500k steps warm-up, squash .001, kernel dropout .3. Not as
published: one kernel a channel with the paper's exponential start, where the authors' code has two with a random start;
the mean over positions for the last one. attention has the shape of Amos et al. 2023, transformer that of Tay et al.;
both get gconv's data, steps, batches and weight decay, with a learning rate, dropout .1 and gradient clipping of their
own. ssm follows S5 (Smith et al. 2023), sgconv the recipe of SGConv. The other mixers get gconv's.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str | None = None) -> ConfigDict:
    return base.resolve(
        arg, pathfinder, {"sgconv": sgconv, "lra": lra, "miralles": miralles}, {"small": small, "smoke": smoke}
    )


def pathfinder(config: ConfigDict) -> None:
    config.data.name = "pathfinder"
    config.data.variant = "lra"
    config.data.length = 1024
    config.steps = 500_000
    config.batch_size = 64
    config.eval_every = 2_500  # about an epoch: validation takes long
    config.optim.warmup_steps = 2_500
    config.optim.weight_decay = 0.03
    if config.mixer == "attention":
        base.shape(config, 4, 128, heads=8)
    elif config.mixer == "transformer":
        base.shape(config, 4, 32, heads=4)
    elif config.mixer == "ssm":
        base.shape(config, 6, 192)
        config.model.norm = "batch"
        base.rates(config, 4.5e-3, 9e-4, 0.03)
        base.s5(config, 128, 8)
        config.steps, config.batch_size = 500_000, 64
        config.model.dropout = 0.05
    else:
        base.shape(config, 6, 256)
        config.model.norm = "batch"
        base.rates(config, 4e-3, 1e-3, 0.03)
        base.regularize(config, squash=0.001, dropout=0.3)


def sgconv(config: ConfigDict) -> None:
    """SGConv's recipe."""
    base.sgconv(config, width=32, unit=9.4, lr=4e-3, weight_decay=0.03)
    config.optim.warmup_steps = 2_500
    config.model.dropout = 0.2


def lra(config: ConfigDict) -> None:
    """LRA's Transformer by its released file."""
    base.shape(config, 1, 128, heads=4)
    base.lra(
        config,
        steps=62_400,
        batch_size=512,
        lr=1e-3,
        warmup_steps=312,
        dropout=0.2,
        mlp_ratio=1.0,
        weight_decay=0.0,
        schedule="cosine",
    )
    config.eval_every = 312


def miralles(config: ConfigDict) -> None:
    """The rotary Transformer by its released file."""
    base.shape(config, 6, 128, heads=4)
    base.miralles(config, steps=125_000, batch_size=128, lr=1e-3, weight_decay=0.01)
    config.data.mirror = True
    config.eval_every = 1_250


def smoke(config: ConfigDict) -> None:
    base.smoke(config)
    config.data.variant = "smoke"


def small(config: ConfigDict) -> None:
    """Contours of 6 paddles on images averaged to 16 × 16, all of them, for 3,000 steps."""
    base.small(config, length=256)
    config.data.variant = "short"
    config.data.pool = 2
    config.data.limit = 0
    config.steps = 3_000
    config.eval_every = config.checkpoint_every = 1_000
