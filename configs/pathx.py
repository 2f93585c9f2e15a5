"""Path-X: whether two dots lie on one dashed contour, 128 × 128 pixels read one by one (Tay et al. 2021).

    python -m gconv.main --config=configs/pathx.py:gconv --workdir=runs/pathx_gconv

200,000 images are generated the first time, an hour or more on 2 cores, with the parameters of LRA's hard split;
interrupted, it goes on where it was. They are not LRA's own, and results say so; python -m gconv.prepare pathx
--source=DIR reads LRA's from its release. They take 3.3 GB of memory.

published test accuracy (%): gconv not found task by task in a readable text, gconv,sgconv 97.83 (Li et al. 2022), ssm
98.58 (S5, Smith et al. 2023), attention none by this recipe (pretrained on the tasks' own inputs 86.21 on average, Amos
et al. 2023), attention,miralles none (Miralles-González et al. 2025 average the other tasks), transformer no better
than guessing (Tay et al. 2021). Guessing scores 50.
parameters: gconv 51,125,762, gconv,sgconv 2,565,122, ssm 694,274, attention 793,858, attention,miralles 795,650,
transformer 12,834; no count by the authors of these recipes was found.
expected time: the full 500,000 steps need an accelerator and have not been run here; a 2-core CPU would take months.
  :MIXER,smoke  under a minute on a CPU, on images of 32 × 32.
  :MIXER,KERNEL,side32  then side64 and side128, each with --config.init_from=RUN of the one before: by progressive
resolution, for the kernels that can be sampled more densely (multi_scale, multi_resolution, implicit, diagonal). Each
side takes half the steps of the one before. experiments/progressive.py is all three in one command.
  :transformer,lra  LRA's own file, with its steps and batches.
  :attention,miralles  Pathfinder's file of Miralles-González et al. 2025; none is of Path-X.
  :MIXER,small  one block and recipe for every mixer, and a quarter of the side; for the tables in experiments/.

gconv follows the recipe of LongConv (Fu et al. 2023): 6 × 256, batch norm before each block, no dropout, AdamW 5e-4 for
kernels and the rest, squash .001, kernel dropout .3, batches of 16, 50 epochs, 10k steps of warm-up. Not as published:
one kernel a channel with the paper's exponential start, where the authors' code has two with a random start. attention
has the shape of Amos et al. 2023, transformer that of Tay et al.; both get gconv's data, steps and batches, with a
learning rate, dropout .1 and gradient clipping of their own. ssm follows S5 (Smith et al. 2023), sgconv the recipe of
SGConv, but a decay of .5 for every channel, where SGConv's differs from channel to channel, in its mode cat_cos. The
other mixers get gconv's.
"""

import functools

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str | None = None) -> ConfigDict:
    return base.resolve(
        arg, pathx, {"sgconv": sgconv, "lra": lra, "miralles": miralles}, SIDES, {"small": small, "smoke": smoke}
    )


def pathx(config: ConfigDict) -> None:
    config.data.name = "pathx"
    config.data.variant = "lra"
    config.data.length = 16_384
    config.steps = 500_000
    config.batch_size = 16
    config.eval_every = 10_000  # about an epoch: validation takes long
    config.optim.warmup_steps = 10_000
    if config.mixer == "attention":
        base.shape(config, 4, 128, heads=8)
    elif config.mixer == "transformer":
        base.shape(config, 1, 32, heads=2)
    elif config.mixer == "ssm":
        base.shape(config, 6, 128)
        config.model.norm = "batch"
        base.rates(config, 1.8e-3, 6e-4, 0.06)
        base.s5(config, 128, 16, c_init="complex_normal", shortest_step=1e-4)
        config.steps, config.batch_size, config.optim.warmup_steps = 375_000, 32, 5_000
        config.eval_every = 5_000
    else:
        base.shape(config, 6, 256)
        config.model.norm = "batch"
        base.rates(config, 5e-4, 5e-4, 0.05)
        base.regularize(config, squash=0.001, dropout=0.3)


def sgconv(config: ConfigDict) -> None:
    """SGConv's recipe."""
    base.sgconv(config, width=64, unit=13.4, lr=4e-3, weight_decay=0.03)
    config.optim.warmup_steps = 10_000
    config.model.dropout = 0.0
    config.steps, config.batch_size, config.eval_every = 125_000, 64, 2_500


UNSAMPLED = tuple(base.KERNELS[name][0] for name in ("free", "fourier"))


def side(config: ConfigDict, pixels: int) -> None:
    """Images averaged to pixels × pixels; a kernel's taps cover the image, whatever its side."""
    config.steps = config.steps * 32 // pixels
    config.data.pool, config.data.length = 128 // pixels, pixels**2
    options = config.model.mixer_options
    if "kernel" in options and not options.taps:  # taps of a number of their own know no length
        if pixels != 32 and options.kernel in UNSAMPLED:
            raise ValueError(f"side{pixels}: a {options.kernel.rpartition('.')[2]} has the taps of one length only")
        options.kernel_length = 32**2
        options.stretch = pixels != 32


SIDES = {f"side{pixels}": functools.partial(side, pixels=pixels) for pixels in (32, 64, 128)}


def lra(config: ConfigDict) -> None:
    """LRA's Transformer by its released file."""
    base.shape(config, 1, 32, heads=2)
    base.lra(
        config,
        steps=500_000,
        batch_size=64,
        lr=1e-3,
        warmup_steps=2_500,
        mlp_ratio=1.0,
        positions="learnt",
        weight_decay=0.0,
        schedule="cosine",
        clip=1.0,
    )
    config.eval_every = 2_500


def miralles(config: ConfigDict) -> None:
    """The rotary Transformer by Pathfinder's file: none for Path-X was released. Steps and batches are gconv's."""
    base.shape(config, 6, 128, heads=4)
    base.miralles(config, steps=config.steps, batch_size=config.batch_size, lr=1e-3, weight_decay=0.01)
    config.data.mirror = True


def smoke(config: ConfigDict) -> None:
    """Images of 32 × 32, a quarter of the side, averaged as another side asks for."""
    base.smoke(config)
    config.data.variant = "smoke"
    config.data.length = 1024 // config.data.pool**2
    options = config.model.mixer_options
    if "kernel_length" in options:
        options.kernel_length //= 16


def small(config: ConfigDict) -> None:
    """Images of a quarter of the side, 32 × 32 unless another was asked for."""
    base.small(config, length=config.data.length // 16)
    config.data.pool *= 4
    options = config.model.mixer_options
    if "kernel_length" in options:
        options.kernel_length //= 16
