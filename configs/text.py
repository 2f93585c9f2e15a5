"""Text: the sentiment, positive or negative, of an IMDb review read as bytes (Maas et al. 2011; Tay et al. 2021).

    python -m gconv.main --config=configs/text.py:gconv --workdir=runs/text_gconv

The reviews are downloaded the first time (84 MB), or prepared from the archive in a folder of yours:
python -m gconv.prepare text --source=DIR. Reviews are cut at 4,096 bytes.

published test accuracy (%): gconv 89.20 (SGConv, Li et al. 2022), attention not published task by task (85.69 on
average over LRA, Miralles-González et al. 2025), transformer 64.27 (Tay et al. 2021), 65.21 (re-run for Mega, Ma et
al. 2022). Guessing scores 50. LRA validates on the test split; here a tenth of the training reviews is held out.
expected time: the full 50,000 steps need an accelerator and have not been run here; a 2-core CPU would take days.
  :MIXER,smoke  under a minute on a CPU, without a download.

gconv follows the recipe of LongConv (Fu et al. 2023): 6 × 256, pre-norm, AdamW .01 with .001 for the kernels, 5k of
50k steps warm-up, squash .003, kernel dropout .2. Not as published: layer norm for batch norm. attention has the
shape of Amos et al. 2023, transformer that of Tay et al.; both get gconv's data, steps and batches, with a learning
rate, dropout .1 and gradient clipping of their own.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str | None = None) -> ConfigDict:
    mixer, preset = base.parse(arg, ("smoke",))
    config = base.base(mixer)
    config.data.name = "text"
    config.data.length = 4096
    config.steps = 50_000
    config.batch_size = 16
    config.optim.warmup_steps = 5_000
    if mixer == "gconv":
        config.model.layers, config.model.features = 6, 256
        config.optim.lr, config.optim.kernel_lr = 1e-2, 1e-3
        config.model.mixer_options.squash = 0.003
        config.model.mixer_options.kernel_dropout = 0.2
    elif mixer == "attention":
        config.model.layers, config.model.features = 6, 512
    else:
        config.model.layers, config.model.features = 4, 256
        config.model.mixer_options.heads = 4
    if preset == "smoke":
        base.smoke(config)
        config.data.length = 256
    return config
