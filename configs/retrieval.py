"""Retrieval: whether one paper of the ACL Anthology cites the other, both read as bytes (Radev et al. 2009).

    python -m gconv.prepare retrieval --source=DIR
    python -m gconv.main --config=configs/retrieval.py:gconv --workdir=runs/retrieval_gconv

The pairs can only be read from LRA's release (Tay et al. 2021), unpacked in DIR; configs/same_film.py is a substitute
of the same form. Papers are cut at 4,000 bytes.

published test accuracy (%): gconv 91.11 (SGConv, Li et al. 2022), attention not published task by task (85.69 on
average over LRA, Miralles-González et al. 2025), transformer 57.46 (Tay et al. 2021), 79.14 (re-run for Mega, Ma et
al. 2022). Guessing scores 50.
expected time: the full 50,000 steps need an accelerator and have not been run here; a 2-core CPU would take weeks.
  :MIXER,smoke  under a minute on a CPU, on made-up pairs.

Both sequences of a pair pass one tower; [u, v, u − v, u ⊙ v] of their features goes to the head.

gconv follows the recipe of LongConv (Fu et al. 2023): 6 × 256, pre-norm, AdamW .01 with .0001 for the kernels, 2.5k of
50k steps warm-up, squash .004, kernel dropout .1. Not as published: layer norm for batch norm. attention has the shape
of Amos et al. 2023, transformer that of Tay et al.; both get gconv's data, steps and batches, with a learning rate,
dropout .1 and gradient clipping of their own.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str | None = None) -> ConfigDict:
    mixer, preset = base.parse(arg, ("smoke",))
    config = base.base(mixer)
    config.data.name = "retrieval"
    config.data.length = 4000
    config.steps = 50_000
    config.batch_size = 64
    config.optim.warmup_steps = 2_500
    if mixer == "gconv":
        config.model.layers, config.model.features = 6, 256
        config.optim.lr, config.optim.kernel_lr = 1e-2, 1e-4
        config.model.mixer_options.squash = 0.004
        config.model.mixer_options.kernel_dropout = 0.1
    else:
        config.model.layers, config.model.features = 4, 128
        config.model.mixer_options.heads = 4
    if preset == "smoke":
        base.smoke(config)
        config.data.length = 256
    return config
