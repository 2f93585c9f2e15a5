"""What the configs of all tasks share: every field with its default; mixers, kernels and presets by name."""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict


def base(mixer: str) -> ConfigDict:
    """Every field of a config, with the block of a mixer. Task files fill in the rest."""
    config = ConfigDict(
        {
            "seed": 0,
            "steps": 0,
            "batch_size": 0,
            "eval_every": 1000,
            "checkpoint_every": 5000,  # and when it is stopped
            "log_every": 100,
            "profile": 0,  # trace so many steps of this process, into WORKDIR/profile
            "data_dir": "data",
            "resident_gib": 4.0,  # training data up to this size is kept on every accelerator; 0: never
            "mesh": {  # devices along each axis; -1: all that are left
                "data": -1,
                "sequence": 1,
                "model": 1,
                "fsdp": False,  # whether parameters and the optimiser's moments are split over `data` too
            },
            "init_from": "",  # a run whose best parameters this one starts from; at another length, see kernel_length
            "mixer": mixer,  # as results and tables name it
            "data": {
                "name": "",
                "variant": "",
                "length": 0,  # of the model: shorter sequences are padded to it
                "limit": 0,  # at most so many examples of each split; 0 for all
                "pool": 1,  # images are averaged over squares of so many pixels a side
                "mirror": False,  # whether training images are doubled by their mirror images
                "allow_stand_in": False,  # whether made-up data may stand in for a set that isn't prepared
                "validation_is_test": False,  # as LRA does on Text, to compare with its numbers; the record says so
                "options": {},  # of a probe's generator
            },
            "model": {
                "mixer": "",  # the import path of its class
                "mixer_options": {},
                "interleave": {"every": 0, "mixer": "", "mixer_options": {}},  # every N-th layer's mixer; 0: none
                "layers": 0,
                "features": 0,
                "mlp_ratio": 0.0,  # hidden units of each block's perceptron over features; 0 for none
                "activation": "gelu",
                "norm": "layer",  # or "batch"
                "norm_first": True,
                "positions": "none",
                "dropout": 0.0,
                "tied": False,  # whether scores of tokens are products with their embeddings, as in language models
                "denoise": 0.0,  # share of tokens that training corrupts and reconstructs, beside the label; 0: none
                "dtype": "float32",  # of activations and matrix multiplies; parameters are float32
            },
            "optim": {
                "lr": 1e-3,  # the peak, after warmup_steps
                "kernel_lr": 1e-3,  # the same for the parameters of long kernels
                "warmup_steps": 0,
                "schedule": "cosine",  # after them; or "inverse_sqrt"
                "weight_decay": 0.05,
                "kernel_weight_decay": 0.0,  # the same for the parameters of long kernels
                "b1": 0.9,
                "b2": 0.999,
                "clip": 0.0,  # global norm of the gradient; 0 for none
                "accumulate": 1,  # parts that a batch is taken in, a batch norm each by itself
                "skip_nonfinite": 0,  # how many steps may have a loss or gradient that isn't finite, and are left out
            },
        }
    )
    MIXERS[mixer](config)
    return config


Change = Callable[[ConfigDict], None]


def resolve(arg: str | None, task: Change, *alternatives: Mapping[str, Change]) -> ConfigDict:
    """The config that MIXER[,NAME…] asks for: the task's, with a kernel, presets and a match where they are named.

    `task` fills in the published setting of config.mixer, a preset changes it: one at most out of each of
    `alternatives`. Kernels, `match=FIGURE` and `layers=N` are the same for every task. However they are ordered, a
    kernel comes first, then the task, then the presets as `alternatives` has them. A match is to modern attention, and
    attention's own is to gconv, with the kernel that is named; so many layers are as wide as gives them the parameters
    of six of the config's width. ValueError for a name that isn't known, for two of which one would undo the other, or
    a kernel for a mixer that has none.
    """
    mixer, *names = (arg or "").split(",")
    if mixer not in MIXERS:
        raise ValueError(f"config:{arg or ''}: expected :MIXER[,NAME…] with MIXER one of {', '.join(MIXERS)}")
    presets = {name: change for group in alternatives for name, change in group.items()}
    figure, layers = "", 0
    for name in names:
        if name.startswith("match="):
            figure = name.removeprefix("match=")
            if figure not in MATCHES:
                raise ValueError(f"config:{arg}: expected match= one of {', '.join(MATCHES)}; got {figure!r}")
        elif name.startswith("layers="):
            if not name.removeprefix("layers=").isdecimal() or not (layers := int(name.removeprefix("layers="))):
                raise ValueError(f"config:{arg}: expected layers= a number of at least 1; got {name!r}")
        elif name not in KERNELS and name not in presets:
            known = ", ".join([*presets, *KERNELS, "match=FIGURE", "layers=N"])
            raise ValueError(f"config:{arg}: unknown name {name!r}; expected one of {known}")
    families = ({*KERNELS, *RECIPES}, *alternatives)
    together = [[name for name in dict.fromkeys(names) if name in family] for family in families]
    together += [[name for name in dict.fromkeys(names) if name.startswith(f)] for f in ("match=", "layers=")]
    for found in together:
        if len(found) > 1:
            raise ValueError(f"config:{arg}: {found[0]} and {found[1]} exclude each other; name one")
    if figure and layers:
        raise ValueError(f"config:{arg}: match={figure} and layers={layers} each set the width; name one")
    config = base(mixer)
    kernels = [name for name in names if name in KERNELS]
    if kernels and "kernel" in config.model.mixer_options:
        config.model.mixer_options.kernel, options = KERNELS[kernels[0]]
        config.model.mixer_options.kernel_options = ConfigDict(options)
    elif kernels and not (figure and mixer == "attention"):  # there it is of the gconv that is matched
        raise ValueError(f"config:{arg}: {mixer} has no kernel to be {kernels[0]}")
    task(config)
    for name, change in presets.items():
        if name in names:
            change(config)
    if figure or layers:
        from gconv.training.match import match  # imports JAX, which few configs need
    if figure:
        sizes = [name for name in names if name in presets and name not in RECIPES]  # those are for some mixers only
        other = ["gconv", *kernels] if mixer == "attention" else ["attention"]
        try:
            reference = resolve(",".join([*other, *sizes]), task, *alternatives)
        except ValueError as error:
            raise ValueError(f"config:{arg}: there is no {other[0]} to match: {error}") from error
        reference.batch_size = config.batch_size
        config.model.features = match(config, reference, figure)
    if layers:
        six = ConfigDict(config.to_dict())
        config.model.layers, six.model.layers = layers, 6
        config.model.features = match(config, six, "parameters")
    return config


MATCHES = ("parameters", "flops", "flops_direct", "time")
RECIPES = ("sgconv", "lra", "miralles")  # presets of every task for the mixers that they were published with


# Name → class and options. LongConv, SGConv, MRConv, CKConv and Hyena, S4D, GFNet.
KERNELS: dict[str, tuple[str, dict[str, object]]] = {
    "free": (
        "gconv.models.kernels.FreeKernel",
        {"scale": 0.02, "decay": True, "smooth": 0, "squash": 0.0, "dropout": 0.0},
    ),
    "multi_scale": ("gconv.models.kernels.MultiScaleKernel", {"width": 32, "decay": 0.5}),
    "multi_resolution": ("gconv.models.kernels.MultiResolutionKernel", {"width": 32, "terms": 16}),
    "implicit": ("gconv.models.kernels.ImplicitKernel", {"hidden": 64, "bands": 8, "frequency": 10.0}),
    "diagonal": ("gconv.models.kernels.DiagonalKernel", {"states": 64}),
    "fourier": ("gconv.models.kernels.FourierKernel", {"scale": 0.02}),
}


def _convolution(mixer: str, **options: object) -> tuple[str, dict[str, object]]:
    kernel, kernel_options = KERNELS["free"]
    conv: dict[str, object] = {
        "boundary": "bidirectional",
        "kernel": kernel,
        "kernel_options": dict(kernel_options),
        "kernel_length": 0,  # 0: the model's
        "stretch": False,
        "taps": 0,  # 0: all
    }
    return f"gconv.models.mixers.{mixer}", {**conv, **options}


def _attention(rotary: bool) -> tuple[str, dict[str, object]]:
    return "gconv.models.mixers.Attention", {"heads": 8, "rotary": rotary, "causal": False, "short_conv": False}


def _set(config: ConfigDict, mixer: tuple[str, dict[str, object]]) -> None:
    config.model.mixer, options = mixer
    config.model.mixer_options = ConfigDict(options)


def gconv(config: ConfigDict) -> None:
    """Global convolutions with pointwise mixing, no separate perceptron: the block of S4 and SGConv."""
    _set(config, _convolution("PointwiseGlobalConv"))


def gconv_plain(config: ConfigDict) -> None:
    """The question's: convolution, GELU, convolution. No channel meets another but in the norm."""
    _set(config, _convolution("PlainGlobalConv", activation="gelu"))


def gated(config: ConfigDict) -> None:
    """Gated global convolutions, as in H3 and Hyena, with a perceptron of four times the width."""
    _set(config, _convolution("GatedGlobalConv"))
    config.model.mlp_ratio = 4.0


def content(config: ConfigDict) -> None:
    """Gated global convolutions whose kernels are made of the sequence, with a perceptron of four times the width."""
    config.model.mixer = "gconv.models.mixers.ContentGlobalConv"
    config.model.mixer_options = ConfigDict({"boundary": "circular"})
    config.model.mlp_ratio = 4.0


def local(config: ConfigDict) -> None:
    """gconv with kernels of 61 taps, as of the local models of Miralles-González et al. 2025 (arXiv:2501.14850)."""
    _set(config, _convolution("PointwiseGlobalConv", taps=61))


def _pointwise(config: ConfigDict) -> None:
    """The config's mixer in the convolution's place in gconv's block."""
    config.model.mixer_options.inner = config.model.mixer
    config.model.mixer = "gconv.models.mixers.PointwiseMixer"


def matrix(config: ConfigDict) -> None:
    """gconv with a matrix over positions in the convolution's place: for the ladder from convolution to attention."""
    _set(config, ("gconv.models.mixers.MixingMatrix", {"shared": False, "rank": 0, "scale": 0.02}))
    _pointwise(config)


def mlp_mixer_glu(config: ConfigDict) -> None:
    """gconv with MLP-Mixer's perceptron over positions in the convolution's place: for the ladder."""
    mlp_mixer(config)
    config.model.mlp_ratio = 0.0
    _pointwise(config)


def attention_glu(config: ConfigDict) -> None:
    """gconv with modern attention in the convolution's place: for the ladder."""
    attention(config)
    config.model.mlp_ratio = 0.0
    _pointwise(config)


def hybrid(config: ConfigDict) -> None:
    """gconv with modern attention as every fourth layer, within the shares that arXiv:2507.06457 finds enough."""
    gconv(config)
    config.model.interleave.every = 4
    config.model.interleave.mixer, options = _attention(rotary=True)
    config.model.interleave.mixer_options = ConfigDict(options)


def attention(config: ConfigDict) -> None:
    """The modern Transformer encoder: pre-norm, rotary positions, a perceptron of four times the width."""
    _set(config, _attention(rotary=True))
    config.model.mlp_ratio = 4.0
    config.model.dropout = 0.1
    config.optim.clip = 1.0


def transformer(config: ConfigDict) -> None:
    """The encoder of Vaswani et al. 2017: post-norm, sinusoidal positions, ReLU.

    On Long Range Arena it has the sizes reported for Tay et al. 2021, on ListOps those of the file that they released
    (6 layers), and the data, steps and batches of gconv: their own are the recipe `lra`.
    """
    _set(config, _attention(rotary=False))
    config.model.mlp_ratio = 4.0
    config.model.dropout = 0.1
    config.optim.lr = 5e-4
    config.optim.clip = 1.0
    config.model.activation = "relu"
    config.model.norm_first = False
    config.model.positions = "sinusoidal"


def mlp_mixer(config: ConfigDict) -> None:
    """MLP-Mixer: a perceptron over positions, then one over channels."""
    config.model.mixer = "gconv.models.mixers.MlpMixer"
    config.model.mixer_options = ConfigDict({"hidden": 256})
    config.model.mlp_ratio = 4.0


def fnet(config: ConfigDict) -> None:
    """FNet: Fourier transforms, with nothing to learn, and a perceptron."""
    config.model.mixer = "gconv.models.mixers.FNet"
    config.model.mixer_options = ConfigDict()
    config.model.mlp_ratio = 4.0


def ssm(config: ConfigDict) -> None:
    """S5: a diagonal state space over all channels, by a parallel scan.

    In the full setting with what its authors' files say of each task. Not as there: a norm before pooling; running
    averages of batch norm over 10 steps (theirs over 20 but on Pathfinder and Path-X); dropout of single values, where
    theirs drops a feature at all positions; weight decay leaves out biases, norms, D, Δ and, on Path-X, B; batches of
    50 are of 48.
    """
    config.model.mixer = "gconv.models.mixers.S5"
    s5(config, 64, 1)


MIXERS = {
    "gconv": gconv,
    "gconv_plain": gconv_plain,
    "gated": gated,
    "content": content,
    "attention": attention,
    "transformer": transformer,
    "mlp_mixer": mlp_mixer,
    "fnet": fnet,
    "local": local,
    "matrix": matrix,
    "mlp_mixer_glu": mlp_mixer_glu,
    "attention_glu": attention_glu,
    "ssm": ssm,
    "hybrid": hybrid,
}


def shape(config: ConfigDict, layers: int, features: int, heads: int = 8) -> None:
    config.model.layers, config.model.features = layers, features
    for options in (config.model.mixer_options, config.model.interleave.mixer_options):
        if "heads" in options:
            options.heads = heads


def rates(config: ConfigDict, lr: float, kernel_lr: float, weight_decay: float) -> None:
    config.optim.lr, config.optim.kernel_lr, config.optim.weight_decay = lr, kernel_lr, weight_decay


def regularize(config: ConfigDict, squash: float, dropout: float) -> None:
    """LongConv's regularisation, for mixers with a free kernel."""
    if config.model.mixer_options.get("kernel") == KERNELS["free"][0]:
        config.model.mixer_options.kernel_options.squash = squash
        config.model.mixer_options.kernel_options.dropout = dropout


def sgconv(config: ConfigDict, width: int, unit: float, lr: float, weight_decay: float) -> None:
    """SGConv's kernel, rates and decay. ValueError for a mixer without a kernel.

    SGConv learns weights of unit variance at a rate of .001 and divides the kernel by the norm it had at first, `unit`.
    Here the weights are divided, so the same relative steps of Adam, and the same decay, are these fields'.
    """
    if "kernel" not in config.model.mixer_options:
        raise ValueError(f"sgconv is a recipe for convolutions; {config.mixer} has no kernel")
    config.model.mixer_options.kernel = KERNELS["multi_scale"][0]
    config.model.mixer_options.kernel_options = ConfigDict({"width": width, "decay": 0.5})
    rates(config, lr, 1e-3 / unit, weight_decay)
    config.optim.kernel_weight_decay = weight_decay * unit


def lra(
    config: ConfigDict,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    warmup_steps: int,
    schedule: str = "inverse_sqrt",
    weight_decay: float = 0.1,
    dropout: float = 0.1,
    mlp_ratio: float = 4.0,
    positions: str = "sinusoidal",
    clip: float = 0.0,
) -> None:
    """The Transformer of Long Range Arena's code, by its released files, but for its shape.

    ValueError for another mixer.

    Pre-norm with GELU, where the paper says Vaswani et al.'s. lr is the peak; where their rate falls as the inverse
    square root of the step, theirs is lr · √warmup_steps. Not as there: the mean over positions for a token of its own
    (their files for Pathfinder and Path-X have the mean too); pixels as numbers for 256 embeddings, black ones not
    masked; learnt positions that start at a deviation of 1, not .02; no dropout of attention's weights or within the
    perceptron; biases in attention's projections; weight decay of matrices only; no hidden layer in the head, but on
    Retrieval one of [u, v, u − v, u ⊙ v], where theirs has two of [u, v]; on Pathfinder and Path-X projections of the
    whole width, where theirs have half. ListOps' file asks for tied layers, which their train.py doesn't pass on.
    """
    if config.mixer != "transformer":
        raise ValueError(f"lra is the recipe of Long Range Arena's transformer; got {config.mixer}")
    config.model.norm_first, config.model.activation, config.model.positions = True, "gelu", positions
    config.model.dropout, config.model.mlp_ratio = dropout, mlp_ratio
    config.steps, config.batch_size = steps, batch_size
    config.optim.warmup_steps, config.optim.schedule, config.optim.clip = warmup_steps, schedule, clip
    config.optim.b2 = 0.98
    rates(config, lr, lr, weight_decay)


def miralles(
    config: ConfigDict,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    denoise: float = 0.0,
    activation: str = "silu",
) -> None:
    """The rotary Transformer of Miralles-González et al. 2025, by the files that they released, but for its shape.

    ValueError for another mixer. github.com/pablomiralles22/long-transformers, configs/experiment/lra.

    Four heads, a perceptron of twice the width, no dropout, no clipping, no warm-up; steps are their greatest number of
    epochs. Not as there: training data as they are, or pictures mirrored, where theirs replace subexpressions by their
    values, turn, move, shear and mirror pictures and contours and change the pictures' contrast; the rate falls by a
    cosine, where theirs falls fivefold when accuracy or loss stays where it was (and on ListOps and Pathfinder tenfold
    for the last tenth), and training stops early; every head is rotated alike and at every frequency, where theirs has
    frequencies across heads, every second of them 0 but on ListOps and Retrieval; a norm before pooling; pixels as
    numbers; [u, v, u − v, u ⊙ v] to a head of the width on Retrieval, at 4,000 bytes, where theirs has [u, v], 512 and
    4,096; reconstruction averaged over an example, then over the batch; weight decay of embeddings too.
    """
    if config.mixer != "attention":
        raise ValueError(f"miralles is a recipe for attention; got {config.mixer}")
    config.model.mlp_ratio, config.model.activation = 2.0, activation
    config.model.dropout, config.model.denoise = 0.0, denoise
    config.steps, config.batch_size = steps, batch_size
    config.optim.warmup_steps, config.optim.clip = 0, 0.0
    rates(config, lr, lr, weight_decay)


def s5(
    config: ConfigDict,
    states: int,
    blocks: int,
    c_init: str = "trunc_standard_normal",
    activation: str = "half_glu1",
    at_model_rate: tuple[str, ...] = (),
    shortest_step: float = 0.001,
) -> None:
    """The options of an S5, with the defaults of its authors' code: C_init, activation_fn, dt_min.

    `at_model_rate` is what opt_config and dt_global say there.
    """
    config.model.mixer_options = ConfigDict(
        {
            "states": states,  # the kept half of conjugate pairs
            "blocks": blocks,  # that they start in
            "c_init": c_init,
            "activation": activation,
            "at_model_rate": at_model_rate,
            "shortest_step": shortest_step,
        }
    )


def smoke(config: ConfigDict) -> None:
    """Shrinks any task to some seconds on a CPU. What it learns means nothing."""
    config.steps = 30
    config.batch_size = 8
    config.eval_every = config.checkpoint_every = 15
    config.log_every = 5
    config.data.limit = 96
    config.data.allow_stand_in = True
    shape(config, 2, 32, heads=2)
    if config.model.interleave.every:
        config.model.interleave.every = 2
    if config.mixer == "ssm":
        s5(config, 8, 1)
    config.optim.warmup_steps = 5


def small(config: ConfigDict, length: int) -> None:
    """One block and one recipe for every mixer, small enough that two cores carry a whole table.

    Of a recipe that is named with it its kernel, activation, positions, losses and mirrored pictures stay, and its
    schedule and moments; not its norms and their place.
    """
    config.data.length = length
    config.steps = 600
    config.batch_size = 32
    config.eval_every = config.checkpoint_every = 200
    config.log_every = 50
    config.data.limit = 10_000
    shape(config, 2, 32, heads=4)
    if config.model.interleave.every:
        config.model.interleave.every = 2
    config.model.mlp_ratio = 2.0
    config.model.norm, config.model.norm_first = "layer", config.mixer != "transformer"
    config.model.dropout = 0.0
    config.optim.warmup_steps = 100
    config.optim.clip = 1.0
    rates(config, 3e-3, 3e-3, 0.05)
    config.optim.kernel_weight_decay = 0.0
    regularize(config, 0.0, 0.0)
    if "hidden" in config.model.mixer_options:
        config.model.mixer_options.hidden = 2048 // length  # some thousand weights a layer, as the others have
    if config.mixer == "ssm":
        s5(config, 16, 1)
    if config.mixer == "local":
        config.model.mixer_options.taps = 15
