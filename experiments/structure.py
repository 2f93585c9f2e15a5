"""Which pairs of tokens a map lets interact: python -m experiments.structure [--output=DIR]

Two tokens i ≠ j interact in y if its mixed second derivative ∂²y[t, c] / ∂x[i, a] ∂x[j, b] isn't zero: y then is no sum
of functions of one token each. They do so within a channel (a = b) or across channels (a ≠ b). Where a map has kinks
its derivatives say nothing, and finite differences stand in: Δ_i Δ_j y for steps of size 1.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from gconv import cli
from gconv.errors import UserError
from gconv.ops import global_conv
from gconv.ops.attention import attention
from gconv.training.metrics import write_json

LENGTH, CHANNELS = 8, 3
Map = Callable[[jax.Array], jax.Array]  # (length, channels) → the same


class Row(NamedTuple):
    name: str
    same: float  # the largest |∂²y/∂x_i ∂x_j|, i ≠ j, within a channel
    across: float
    same_steps: float  # the same of finite differences
    across_steps: float
    equivariant: bool  # whether shifting the tokens around the circle shifts y


def maps(seed: int = 0) -> dict[str, Map]:
    """The maps of the question and its answers, with weights drawn once, float64 under jax_enable_x64."""
    rng = np.random.default_rng(seed)
    w1, w2 = (jnp.asarray(rng.standard_normal((LENGTH, CHANNELS)) / np.sqrt(LENGTH)) for _ in range(2))
    mix = jnp.asarray(rng.standard_normal((CHANNELS, CHANNELS)))
    projections = [jnp.asarray(rng.standard_normal((CHANNELS, CHANNELS))) for _ in range(3)]
    tokens = jnp.asarray(rng.standard_normal((LENGTH, LENGTH)) / np.sqrt(LENGTH))

    def conv(w: jax.Array, x: jax.Array) -> jax.Array:
        return global_conv(x[None], w, boundary="circular", method="matrix")[0]

    def gelu(x: jax.Array) -> jax.Array:
        return jax.nn.gelu(x, approximate=False)

    def glu(x: jax.Array) -> jax.Array:
        return (x @ projections[0]) * jax.nn.sigmoid(x @ projections[1])

    def attend(x: jax.Array) -> jax.Array:
        q, k, v = ((x @ p)[None, :, None, :] for p in projections)
        return attention(q, k, v)[0, :, 0]

    return {
        "convolution": lambda x: conv(w1, x),
        "convolution, convolution": lambda x: conv(w2, conv(w1, x)),
        "convolution, ReLU, convolution": lambda x: conv(w2, jax.nn.relu(conv(w1, x))),
        "convolution, GELU, convolution (the question's)": lambda x: conv(w2, gelu(conv(w1, x))),
        "convolution, GELU, pointwise, convolution": lambda x: conv(w2, gelu(conv(w1, x)) @ mix),
        "convolution, GELU, pointwise, convolution, GELU": lambda x: gelu(conv(w2, gelu(conv(w1, x)) @ mix)),
        "convolution, pointwise, GELU, convolution": lambda x: conv(w2, gelu(conv(w1, x) @ mix)),
        "convolution, GELU, gated linear unit (gconv's block)": lambda x: glu(gelu(conv(w1, x))),
        "gate: x ⊙ convolution": lambda x: x * conv(w1, x),
        "token perceptron (MLP-Mixer)": lambda x: tokens.T @ gelu(tokens @ x),
        "attention, no positions": attend,
    }


def pairs(f: Map, x: jax.Array) -> tuple[float, float]:
    """The largest mixed second derivative at x, within a channel and across: over i ≠ j and every output."""
    hessian = jax.hessian(f)(x)  # [t, c, i, a, j, b]
    return _largest(jnp.abs(hessian).max((0, 1)))


def steps(f: Map, x: jax.Array) -> tuple[float, float]:
    """The same of finite differences with steps of 1."""
    units = jnp.eye(x.size).reshape(x.size, *x.shape)
    one = jax.vmap(lambda u: f(x + u))(units)
    both = jax.vmap(lambda u: jax.vmap(lambda v: f(x + u + v))(units))(units)
    differences = both - one[:, None] - one[None, :] + f(x)
    return _largest(jnp.abs(differences).max((2, 3)).reshape(*x.shape, *x.shape))


def _largest(of_pairs: jax.Array) -> tuple[float, float]:
    """of_pairs [i, a, j, b] → the largest over i ≠ j for a = b, and for a ≠ b."""
    length, channels = of_pairs.shape[:2]
    apart = ~np.eye(length, dtype=bool)[:, None, :, None]
    same = np.eye(channels, dtype=bool)[None, :, None, :]
    return float(jnp.max(of_pairs, where=apart & same, initial=0)), float(
        jnp.max(of_pairs, where=apart & ~same, initial=0)
    )


def measure() -> list[Row]:
    x = jnp.asarray(np.random.default_rng(1).standard_normal((LENGTH, CHANNELS)))
    rows = []
    for name, f in maps().items():
        shifted = bool(jnp.allclose(f(jnp.roll(x, 1, 0)), jnp.roll(f(x), 1, 0), atol=1e-10))
        rows.append(Row(name, *pairs(f, x), *steps(f, x), shifted))
    return rows


def table(rows: list[Row]) -> str:
    def shown(value: float) -> str:
        return "0" if value < 1e-12 else f"{value:.2g}"

    lines = [
        "| map | within a channel | across channels | by steps of 1: within | across | shift-equivariant |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        figures = " | ".join(shown(v) for v in (row.same, row.across, row.same_steps, row.across_steps))
        lines.append(f"| {row.name} | {figures} | {'yes' if row.equivariant else 'no'} |")
    return "\n".join(lines) + "\n"


def save(rows: list[Row], folder: Path) -> None:
    content: Any = rows
    write_json(folder / "structure.json", content)
    (folder / "structure.md").write_text(table(rows))


def define_flags() -> None:
    flags.DEFINE_string("output", None, "folder for the record and the table")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}")
    folder = cli.output_folder(flags.FLAGS.output)
    jax.config.update("jax_enable_x64", True)
    rows = measure()
    print(table(rows))
    if folder is not None:
        save(rows, folder)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
