"""Probes of single abilities beyond recall with many queries, which has a table of its own (recall)."""

from experiments.grid import Part, Table, rates

TABLE = Table(
    title="Probes of single abilities, two layers, all but MLP-Mixer causal",
    rows={
        "gconv": Part("gconv"),
        "gconv, gated": Part("gated"),
        "gconv, then attention": Part("hybrid"),
        "attention, short convolution": Part("attention", {"model.mixer_options.short_conv": True}),
        "attention": Part("attention"),
        "MLP-Mixer": Part("mlp_mixer"),
    },
    columns={
        "recall by one query": Part("probes,recall"),
        "induction": Part("probes,induction"),
        "copying of 5 to 20": Part("probes,copying"),
        "copying of 20": Part("probes,copying", {"data.options.shortest": 20}),
        "look-up by 2-gram": Part("probes,ngram_lookup"),
        "majority": Part("probes,majority"),
        "parity of 15 bits": Part("probes,parity,small"),
        "memorisation": Part("probes,memorization"),
        "compression": Part("probes,compression"),
        "selective copying at 256": Part("probes,selective_copying"),
    },
    sweep=rates(1e-3, 3e-3),
    control=("attention", "attention, short convolution"),
    note="A column counts where attention, with or without a short convolution, has left the level of guessing. In the"
    " small setting layers are 32 wide.",
)
