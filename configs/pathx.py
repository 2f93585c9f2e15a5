"""Path-X: whether two dots lie on one dashed contour, 128 × 128 pixels read one by one (Tay et al. 2021).

    python -m gconv.main --config=configs/pathx.py:gconv --workdir=runs/pathx_gconv

200,000 images are generated the first time, an hour or more on 2 cores, with the parameters of LRA's hard split;
interrupted, it goes on where it was. They are not LRA's own, and results say so; python -m gconv.prepare pathx
--source=DIR reads LRA's from its release. They take 3.3 GB of memory.

published test accuracy (%): gconv 97.83 (SGConv, Li et al. 2022), attention not published task by task (85.69 on
average over LRA, Miralles-González et al. 2025), transformer no better than guessing (Tay et al. 2021). Guessing
scores 50.
expected time: the full 500,000 steps need an accelerator and have not been run here; a 2-core CPU would take months.
  :MIXER,smoke  under a minute on a CPU, on images of 32 × 32.

gconv follows the recipe of LongConv (Fu et al. 2023): 6 × 256, pre-norm, no dropout, AdamW 5e-4 for kernels and the
rest, squash .001, kernel dropout .3, batches of 16, 50 epochs. Not as published: layer norm for batch norm, and 10k
steps of warm-up, which are SGConv's. attention has the shape of Amos et al. 2023, transformer that of Tay et al.; both
get gconv's data, steps and batches, with a learning rate, dropout .1 and gradient clipping of their own.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str | None = None) -> ConfigDict:
    mixer, preset = base.parse(arg, ("smoke",))
    config = base.base(mixer)
    config.data.name = "pathx"
    config.data.variant = "lra"
    config.data.length = 16_384
    config.steps = 500_000
    config.batch_size = 16
    config.optim.warmup_steps = 10_000
    if mixer == "gconv":
        config.model.layers, config.model.features = 6, 256
        config.optim.lr, config.optim.kernel_lr = 5e-4, 5e-4
        config.model.mixer_options.squash = 0.001
        config.model.mixer_options.kernel_dropout = 0.3
    elif mixer == "attention":
        config.model.layers, config.model.features = 4, 128
    else:
        config.model.layers, config.model.features = 1, 32
        config.model.mixer_options.heads = 2
    if preset == "smoke":
        base.smoke(config)
        config.data.variant = "smoke"
        config.data.length = 1024
    return config
