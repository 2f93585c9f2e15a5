"""A training step of one layer by length: gconv's beside attention's, each with its dense layers, and a perceptron too.

What the operator's own times leave out, and what hides the most of its gain where sequences are short.
"""

import math
from typing import Any

import jax
from ml_collections import ConfigDict

from gconv.training.timing import compiled_step, medians
from scripts.benchmark.training_step import Shape, config_of

LENGTHS = (16, 64, 256, 1024, 4096, 16_384, 65_536)
FEATURES, TOKENS = 64, 65_536  # in a step, as many as the operator's benchmark has
PERCEPTRONS = {"": 0.0, ", perceptron": 4.0}
ONCE = 16_384  # from this length on a step of attention takes half a minute or more
SETTING = (
    f"Models of one layer, {FEATURES} features, {TOKENS:,} tokens a step: forward, gradient and optimiser. Kernels"
    " reach to both sides, perceptrons are of four times the width. A CPU's cores are two devices, which share the"
    " batch, or the positions where it is one. gconv's steps are timed first, then attention's, those of"
    f" {ONCE:,} tokens and more once."
)


def batch_of(length: int) -> int:
    return max(1, TOKENS // length)


def block_config(mixer: str, length: int, mlp_ratio: float) -> ConfigDict:
    batch = batch_of(length)
    config = config_of(mixer, Shape(length, FEATURES, layers=1, batch=batch), mlp_ratio)
    config.mesh.sequence = jax.device_count() // math.gcd(jax.device_count(), batch)
    return config


def measure(length: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """One row a model: seconds a step, parameters, temporary memory."""
    rows: list[dict[str, Any]] = []
    for mixer in ("gconv", "attention"):
        runs = {}
        for name, ratio in PERCEPTRONS.items():
            runs[mixer + name], facts = compiled_step(block_config(mixer, length, ratio), batch_of(length))
            rows.append({"length": length, "batch": batch_of(length), "model": mixer + name, **facts})
        once = mixer == "attention" and length >= ONCE
        taken = medians(runs, 1 if once else rounds, seconds, warm_up=1 if once else 2)
        for row in rows[-len(runs) :]:
            row["seconds"] = taken[row["model"]]
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| length | batch | gconv, ms | attention, ms | attention ÷ gconv | with the perceptron: gconv | attention |"
        " attention ÷ gconv | gconv, MiB | attention, MiB |",
        "|" + "---:|" * 10,
    ]
    for length in dict.fromkeys(row["length"] for row in rows):
        of = {row["model"]: row for row in rows if row["length"] == length}
        cells = [f"{length:,}", f"{of['gconv']['batch']:,}"]
        for name in PERCEPTRONS:
            ours, theirs = (of[mixer + name]["seconds"] for mixer in ("gconv", "attention"))
            cells += [f"{1e3 * ours:,.0f}", f"{1e3 * theirs:,.0f}", f"{theirs / ours:,.1f}"]
        cells += [f"{of[mixer]['bytes'] / 2**20:,.0f}" for mixer in ("gconv", "attention")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{SETTING}\n"
