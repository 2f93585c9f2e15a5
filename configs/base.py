"""What the configs of all tasks share: every field with its default, and the mixers that are compared."""

from ml_collections import ConfigDict


def base(mixer: str) -> ConfigDict:
    """Every field of a config, with the block of a mixer. Task files fill in the rest."""
    config = ConfigDict(
        {
            "seed": 0,
            "steps": 0,
            "batch_size": 0,
            "eval_every": 1000,
            "checkpoint_every": 1000,
            "log_every": 100,
            "data_dir": "data",
            "mesh": {  # devices along each axis; -1: all that are left
                "data": -1,
                "sequence": 1,
                "model": 1,
                "fsdp": False,  # whether parameters and the optimiser's moments are split over `data` too
            },
            "mixer": mixer,  # as results and tables name it
            "data": {
                "name": "",
                "variant": "",
                "length": 0,  # of the model: shorter sequences are padded to it
                "limit": 0,  # at most so many examples of each split; 0 for all
                "allow_stand_in": False,  # whether made-up data may stand in for a set that isn't prepared
                "validation_is_test": False,  # as LRA does on Text, to compare with its numbers; the record says so
            },
            "model": {
                "mixer": "",  # the import path of its class
                "mixer_options": {},
                "layers": 0,
                "features": 0,
                "mlp_ratio": 0.0,  # hidden units of each block's perceptron over features; 0 for none
                "activation": "gelu",
                "norm_first": True,
                "positions": "none",
                "dropout": 0.0,
                "dtype": "float32",  # of activations and matrix multiplies; parameters and FFTs are float32
            },
            "optim": {
                "lr": 1e-3,  # the peak, after warmup_steps
                "kernel_lr": 1e-3,  # the same for the parameters of long kernels
                "warmup_steps": 0,
                "weight_decay": 0.05,
                "b1": 0.9,
                "b2": 0.999,
                "clip": 0.0,  # global norm of the gradient; 0 for none
                "accumulate": 1,  # parts that a batch is taken in
                "skip_nonfinite": 0,  # how many steps may have a loss or gradient that isn't finite, and are left out
            },
        }
    )
    MIXERS[mixer](config)
    return config


def parse(arg: str | None, presets: tuple[str, ...]) -> tuple[str, str]:
    """Splits what follows the colon, MIXER[,PRESET]. ValueError for a name that isn't known."""
    mixer, _, preset = (arg or "").partition(",")
    if mixer not in MIXERS:
        raise ValueError(f"config:{arg or ''}: expected :MIXER[,PRESET] with MIXER one of {', '.join(MIXERS)}")
    if preset and preset not in presets:
        raise ValueError(f"config:{arg}: unknown preset {preset!r}; expected one of {', '.join(presets)}")
    return mixer, preset


def gconv(config: ConfigDict) -> None:
    """Bidirectional global convolutions with pointwise mixing, no separate perceptron: the block of S4 and SGConv."""
    config.model.mixer = "gconv.models.mixers.PointwiseGlobalConv"
    config.model.mixer_options = ConfigDict(
        {"boundary": "bidirectional", "scale": 0.02, "squash": 0.0, "kernel_dropout": 0.0}
    )


def attention(config: ConfigDict) -> None:
    """The modern Transformer encoder: pre-norm, rotary positions, a perceptron of four times the width."""
    config.model.mixer = "gconv.models.mixers.Attention"
    config.model.mixer_options = ConfigDict({"heads": 8, "rotary": True})
    config.model.mlp_ratio = 4.0
    config.model.dropout = 0.1
    config.optim.clip = 1.0


def transformer(config: ConfigDict) -> None:
    """The encoder of Vaswani et al. 2017: post-norm, sinusoidal positions, ReLU."""
    config.model.mixer = "gconv.models.mixers.Attention"
    config.model.mixer_options = ConfigDict({"heads": 8, "rotary": False})
    config.model.mlp_ratio = 4.0
    config.model.dropout = 0.1
    config.optim.lr = 5e-4
    config.optim.clip = 1.0
    config.model.activation = "relu"
    config.model.norm_first = False
    config.model.positions = "sinusoidal"


MIXERS = {"gconv": gconv, "attention": attention, "transformer": transformer}


def smoke(config: ConfigDict) -> None:
    """Shrinks any task to some seconds on a CPU. What it learns means nothing."""
    config.steps = 30
    config.batch_size = 8
    config.eval_every = config.checkpoint_every = 15
    config.log_every = 5
    config.data.limit = 96
    config.data.allow_stand_in = True
    config.model.layers = 2
    config.model.features = 32
    config.optim.warmup_steps = 5
    if "heads" in config.model.mixer_options:
        config.model.mixer_options.heads = 2
