"""Probes of single abilities: recall, copying, counting, memory. Generated at the start of a run, in seconds.

    python -m gconv.main --config=configs/probes.py:attention,mqar --workdir=runs/mqar_attention

MIXER is followed by the probe: mqar, scattered_mqar, recall, induction, selective_copying, copying, ngram_lookup,
majority, parity, memorization or compression; gconv/data/generators/probes.py defines them, names their papers and says
where it departs from their code.
Numbers of examples, lengths and vocabularies are those of their authors' files for mqar, recall, induction,
selective_copying and compression, ours for the others; the block is one for all mixers: two layers with learnt
positions and no perceptron, but for the mixers that mix channels only there. For mqar only attention has those
positions, as in Zoology. Convolutions and attention are causal; mlp_mixer, fnet, ssm, matrix and mlp_mixer_glu aren't,
and see the later tokens too, among which no answer stands.
For mqar, scattered_mqar, recall and induction scores are tied to the embeddings, as in Zoology and safari.
Not as in their files: attention is rotary besides; embeddings aren't dropped out; a rate where they choose one of three
or four. mqar: batches of 256, not 512, and one of Zoology's two files of its figure has four layers for all but
attention. recall, induction: safari's blocks have a perceptron, its H3 no positions.
selective_copying, memorization, compression: MAD has perceptrons, sixteen heads and no positions but rotary ones.

published test accuracy (%): mqar: attention about 100 at every width, gated convolutions less the longer and the more
pairs (Arora et al. 2023). recall, induction: attention and H3 above 97 (Fu et al. 2023). selective_copying, of 4,096
tokens: selection 97.0, H3 with Hyena 30.1, S4 without gates 18.3 (Gu & Dao 2023, table 1).
expected time: mqar took gates two hours on one core; the other published settings have not been run to their end here.
  :MIXER,PROBE,small  a minute or two on one core, for the table in experiments/probes.py.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(arg: str | None = None) -> ConfigDict:
    if not PROBES.keys() & set((arg or "").split(",")[1:]):
        raise ValueError(f"config:{arg}: expected a probe after the mixer, one of {', '.join(PROBES)}")
    return base.resolve(arg, probes, PROBES, {"small": small, "smoke": smoke})


def probes(config: ConfigDict) -> None:
    base.shape(config, 2, 64, heads=1)
    config.model.positions = "learnt"
    config.model.dropout = 0.0
    config.model.norm_first = True
    config.model.mlp_ratio = 2.0 if config.mixer in ("gconv_plain", "mlp_mixer", "fnet") else 0.0
    for options in (config.model.mixer_options, config.model.interleave.mixer_options):
        if "boundary" in options:
            options.boundary = "causal"
        if "causal" in options:
            options.causal = True
    if config.model.interleave.every:
        config.model.interleave.every = 2
    base.rates(config, 1e-3, 1e-3, 0.1)
    config.optim.clip = 1.0


def _data(config: ConfigDict, name: str, length: int, train: int, held_out: int, **options: float) -> None:
    config.data.name, config.data.length = name, length
    config.data.options = ConfigDict({**options, "train": train, "held_out": held_out})


def _training(config: ConfigDict, batch_size: int, epochs: int) -> None:
    config.batch_size = batch_size
    config.steps = epochs * config.data.options.train // batch_size
    config.optim.warmup_steps = config.steps // 10


def mqar(config: ConfigDict) -> None:
    _data(config, "mqar", 64, 100_000, 3_000, vocabulary=8192, pairs=4, power=0.01, blanks=True)
    if config.mixer not in ("attention", "transformer"):
        config.model.positions = "none"
    config.model.tied = True
    _training(config, batch_size=256, epochs=64)


def scattered_mqar(config: ConfigDict) -> None:
    _data(config, "scattered_mqar", 64, 100_000, 3_000, vocabulary=8192, pairs=4)
    config.model.tied = True
    _training(config, batch_size=256, epochs=64)


def recall(config: ConfigDict) -> None:
    _data(config, "recall", 42, 5_000, 500, vocabulary=20)
    config.model.tied = True
    _training(config, batch_size=32, epochs=400)
    config.model.features = 32
    config.optim.lr = config.optim.kernel_lr = 5e-4


def induction(config: ConfigDict) -> None:
    _data(config, "induction", 31, 5_000, 500, vocabulary=20)
    config.model.tied = True
    _training(config, batch_size=32, epochs=400)
    config.model.features = 32
    config.optim.lr = config.optim.kernel_lr = 5e-4


def selective_copying(config: ConfigDict) -> None:
    _data(config, "selective_copying", 256, 12_800, 1_280, vocabulary=16, tokens=16)
    _training(config, batch_size=128, epochs=200)
    config.model.features = 128


def copying(config: ConfigDict) -> None:
    _data(config, "copying", 41, 100_000, 3_000, vocabulary=28, shortest=5)
    _training(config, batch_size=256, epochs=64)


def ngram_lookup(config: ConfigDict) -> None:
    _data(config, "ngram_lookup", 43, 100_000, 3_000, vocabulary=27, n=2)
    _training(config, batch_size=256, epochs=64)


def majority(config: ConfigDict) -> None:
    _data(config, "majority", 64, 100_000, 1_000)
    _training(config, batch_size=256, epochs=64)


def parity(config: ConfigDict) -> None:
    _data(config, "parity", 64, 100_000, 1_000)
    _training(config, batch_size=256, epochs=64)


def memorization(config: ConfigDict) -> None:
    _data(config, "memorization", 32, 12_800, 1_280, vocabulary=256)
    _training(config, batch_size=128, epochs=200)
    config.model.features = 128


def compression(config: ConfigDict) -> None:
    _data(config, "compression", 32, 12_800, 1_280, vocabulary=16)
    _training(config, batch_size=128, epochs=200)
    config.model.features = 128


PROBES = {
    probe.__name__: probe
    for probe in (
        *(mqar, scattered_mqar, recall, induction, selective_copying, copying, ngram_lookup),
        *(majority, parity, memorization, compression),
    )
}


def small(config: ConfigDict) -> None:
    """Short sequences, few tokens, an example hardly ever twice, and one recipe.

    mqar with random tokens between pairs and queries, and positions for all: experiments/recall_gated.py has neither.
    Scores have weights of their own everywhere.
    """
    config.model.tied = False
    if "pairs" in config.data.options:
        config.data.length, config.data.options.vocabulary = 32, 128
    if "blanks" in config.data.options:
        config.data.options.blanks = False
        config.model.positions = "learnt"
    if config.data.name == "parity":
        config.data.length = 16
    config.data.options.train, config.data.options.held_out = 100_000, 2_000
    base.shape(config, 2, 32, heads=1)
    if "hidden" in config.model.mixer_options:
        config.model.mixer_options.hidden = 32
    if config.mixer == "ssm":
        base.s5(config, 16, 1)
    config.batch_size, config.steps = max(16, 64 * 32 // config.data.length), 2_000
    config.eval_every = config.checkpoint_every = 500
    config.log_every = 100
    config.optim.warmup_steps = 200
    base.rates(config, 3e-3, 3e-3, 0.1)


def smoke(config: ConfigDict) -> None:
    base.smoke(config)
    config.data.options.train, config.data.options.held_out = 96, 32
    if "vocabulary" in config.data.options:
        config.data.options.vocabulary = min(config.data.options.vocabulary, 64)
