"""How recall grows with width, depth, length, the number of pairs and training: one of them changed at a time.

The rest is as in the table of recall.
"""

from typing import Any

from experiments.grid import Part, Table, rates


def mqar(**overrides: Any) -> Part:
    return Part("probes,mqar,small", {field.replace("__", "."): value for field, value in overrides.items()})


TABLE = Table(
    title="Multi-query associative recall by size, one thing changed at a time",
    rows={
        "gconv": Part("gconv"),
        "gconv, gated": Part("gated"),
        "attention": Part("attention"),
        "MLP-Mixer": Part("mlp_mixer"),
    },
    columns={
        "width 16": mqar(model__features=16),
        "width 64": mqar(model__features=64),
        "width 128": mqar(model__features=128),
        "1 layer": mqar(model__layers=1),
        "4 layers": mqar(model__layers=4),
        "64 tokens": mqar(data__length=64),
        "2 pairs": mqar(data__options__pairs=2),
        "8 pairs in 64 tokens": mqar(data__length=64, data__options__pairs=8),
        "8000 steps": mqar(steps=8000),
    },
    seeds=(0, 1, 2, 3, 4),
    sweep=rates(2e-3, 6e-3, 2e-2),
    control=("attention",),
    note="In the small setting 4 pairs in 32 tokens and two layers of width 32, but for that. MLP-Mixer has 32 hidden"
    " units over tokens throughout. That a model guesses counts in a column that attention has learnt.",
)
