"""Image: the class of a CIFAR-10 picture in grey, read pixel by pixel (Krizhevsky 2009; Tay et al. 2021).

    python -m gconv.main --config=configs/image.py:gconv --workdir=runs/image_gconv

The pictures are downloaded the first time (170 MB), or prepared from the archive in a folder of yours:
python -m gconv.prepare image --source=DIR. Of the 50,000 training pictures 5,000 are held out for validation.

published test accuracy (%): gconv 87.97 (SGConv, Li et al. 2022), attention not published task by task (85.69 on
average over LRA, Miralles-González et al. 2025), transformer 42.44 (Tay et al. 2021), 42.94 (re-run for Mega, Ma et
al. 2022). Guessing scores 10.
expected time: the full 200,000 steps need an accelerator and have not been run here; a 2-core CPU would take weeks.
  :MIXER,smoke  under a minute on a CPU, without a download.

gconv follows the recipe of LongConv (Fu et al. 2023): 6 × 512, post-norm, dropout .1, AdamW .01 with .001 for the
kernels, 1k of 200k steps warm-up, squash .003, kernel dropout .2. Not as published: batches of 48 for 50, to split
over 8 devices. attention has the shape of Amos et al., transformer that of Tay et al.; both get gconv's data, steps
and batches, with a learning rate, dropout .1 and gradient clipping of their own.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str | None = None) -> ConfigDict:
    mixer, preset = base.parse(arg, ("smoke",))
    config = base.base(mixer)
    config.data.name = "image"
    config.data.length = 1024
    config.steps = 200_000
    config.batch_size = 48
    config.optim.warmup_steps = 1_000
    if mixer == "gconv":
        config.model.layers, config.model.features = 6, 512
        config.model.norm_first = False
        config.model.dropout = 0.1
        config.optim.lr, config.optim.kernel_lr = 1e-2, 1e-3
        config.model.mixer_options.squash = 0.003
        config.model.mixer_options.kernel_dropout = 0.2
    elif mixer == "attention":
        config.model.layers, config.model.features = 3, 64
    else:
        config.model.layers, config.model.features = 1, 128
    if preset == "smoke":
        base.smoke(config)
    return config
