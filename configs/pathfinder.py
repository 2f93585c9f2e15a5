"""Pathfinder: whether two dots lie on one dashed contour, 32 × 32 pixels read one by one (Linsley et al. 2018).

    python -m gconv.main --config=configs/pathfinder.py:gconv --workdir=runs/pathfinder_gconv

200,000 images are generated the first time, some minutes on 2 cores, with the parameters of LRA's hard split (Tay et
al. 2021). They are not LRA's own, and results say so; python -m gconv.prepare pathfinder --source=DIR reads LRA's from
its release.

published test accuracy (%): gconv 95.46 (SGConv, Li et al. 2022), attention not published task by task (85.69 on
average over LRA, Miralles-González et al. 2025), transformer 71.40 (Tay et al. 2021), 71.83 (re-run for Mega, Ma et
al. 2022). Guessing scores 50.
expected time: the full 500,000 steps need an accelerator and have not been run here; a 2-core CPU would take weeks.
  :MIXER,smoke  under a minute on a CPU.

gconv follows the recipe of LongConv (Fu et al. 2023): 6 × 256, pre-norm, no dropout, AdamW .004 with .001 for the
kernels, weight decay .03, 2.5k of 500k steps warm-up, squash .001, kernel dropout .3. Not as published: layer norm for
batch norm. attention has the shape of Amos et al. 2023, transformer that of Tay et al.; both get gconv's data, steps,
batches and weight decay, with a learning rate, dropout .1 and gradient clipping of their own.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str | None = None) -> ConfigDict:
    mixer, preset = base.parse(arg, ("smoke",))
    config = base.base(mixer)
    config.data.name = "pathfinder"
    config.data.variant = "lra"
    config.data.length = 1024
    config.steps = 500_000
    config.batch_size = 64
    config.optim.warmup_steps = 2_500
    config.optim.weight_decay = 0.03
    if mixer == "gconv":
        config.model.layers, config.model.features = 6, 256
        config.optim.lr, config.optim.kernel_lr = 4e-3, 1e-3
        config.model.mixer_options.squash = 0.001
        config.model.mixer_options.kernel_dropout = 0.3
    elif mixer == "attention":
        config.model.layers, config.model.features = 4, 128
    else:
        config.model.layers, config.model.features = 4, 32
        config.model.mixer_options.heads = 4
    if preset == "smoke":
        base.smoke(config)
        config.data.variant = "smoke"
    return config
