"""ListOps: the value 0..9 of a nested expression of up to 2,000 tokens."""
from configs import base


def get_config(arg=None):
    mixer, preset = base.parse(arg, ("smoke", "quickstart"))
    config = base.base()
    config.mixer = mixer
    config.data.name = "listops"
    config.data.variant = "lra"
    config.data.length = 2048
    config.steps = 80000; config.batch_size = 48
    base.MIXERS[mixer](config)
    if preset == "quickstart":
        config.data.variant = "short"; config.data.length = 128
        config.steps = 600; config.batch_size=32; config.eval_every=100; config.checkpoint_every=100; config.log_every=20
        config.model.layers=4; config.model.features=64
        config.optim.lr=3e-3; config.optim.warmup_steps=50
        config.model.mlp_ratio=2.0
        if mixer!="gconv": config.model.mixer_options.heads=4
    if preset == "smoke":
        config.data.variant = "smoke"; config.data.length=32
        base.smoke(config)
    return config
