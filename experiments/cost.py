"""What mixing tokens costs by formula, length by length: python -m experiments.cost [--output=DIR]

FLOPs (`gconv.ops.cost`) of the forward pass of one layer for one token, width 256. Tokens are mixed by attention or by
the question's circular convolution, computed directly or by FFT. First the mixing alone, then with the mixer's own
dense layers (attention's four projections, gconv's gated linear unit), then with the block's perceptron of four times
the width. Beside that the FLOPs of each operation as compiled and its least memory traffic, and the memory that its
value and gradients take.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from gconv import cli
from gconv.errors import UserError
from gconv.models.kernels import taps_of
from gconv.ops import cost, global_conv
from gconv.ops.attention import attention
from gconv.training.metrics import write_json

FEATURES = 256
LENGTHS = [2**i for i in range(4, 17)]
METHODS = ("attention", "direct", "FFT")
WITH = ("mixing alone", "with its dense layers", "with the perceptron")
FACTORS = (2, 12, 24)  # layers; 12 or 24 are the question's
COMPILED_LENGTHS = [4**i for i in range(2, 9)]
BATCH, HIDDEN, ITEMSIZE, HEAD_SIZE = 16, 256, 4, 32


def all_scores(length: int) -> int:
    """The batch whose scores are compiled at once."""
    return 1 if length > 16384 else BATCH  # XLA of jax 0.12 crashes where an array has half a trillion scores


def flops(length: int) -> dict[str, list[float]]:
    """FLOPs a token by method, each with nothing else, with the mixer's dense layers, and with the perceptron too."""
    convolution = cost.global_conv(length, FEATURES, length, "circular")
    glu, projections = cost.dense(1, FEATURES, 2 * FEATURES).fft, cost.dense(1, FEATURES, 4 * FEATURES).fft
    perceptron = cost.dense(1, FEATURES, 8 * FEATURES).fft

    def added(mixing: float, dense: float) -> list[float]:
        return [mixing / length, mixing / length + dense, mixing / length + dense + perceptron]

    return {
        "attention": added(cost.attention(length, FEATURES).fft, projections),
        "direct": added(convolution.direct, glu),
        "FFT": added(convolution.fft, glu),
    }


def fft_pays_from() -> int:
    """The smallest length from which on the convolution costs less by FFT than directly."""
    found = LENGTHS[-1]
    for length in range(256, 0, -1):
        at = flops(length)
        if at["FFT"][0] >= at["direct"][0]:
            break
        found = length
    return found


def operations(length: int) -> dict[str, tuple[float, int]]:
    """FLOPs and least bytes of the forward pass of a batch, with bidirectional kernels of all lags."""
    taps = taps_of(length, "bidirectional")
    conv = cost.global_conv(length, FEATURES, taps, "bidirectional")
    moved = cost.global_conv_bytes(BATCH, length, FEATURES, taps, ITEMSIZE)
    scores, perceptron = cost.attention(length, FEATURES), cost.token_perceptron(length, FEATURES, HIDDEN)
    return {
        "global convolution by FFT": (BATCH * conv.fft, moved),
        "global convolution by its sum": (BATCH * conv.direct, moved),
        "attention": (BATCH * scores.fft, cost.attention_bytes(BATCH, length, FEATURES, ITEMSIZE)),
        f"token perceptron of {HIDDEN} units": (
            BATCH * perceptron.fft,
            cost.token_perceptron_bytes(BATCH, length, FEATURES, HIDDEN, ITEMSIZE),
        ),
        f"dense layer {FEATURES} → {FEATURES}": (
            BATCH * cost.dense(length, FEATURES, FEATURES).fft,
            cost.dense_bytes(BATCH * length, FEATURES, FEATURES, ITEMSIZE),
        ),
    }


def compiled_flops(length: int) -> dict[str, float]:
    """FLOPs that XLA counts in its compiled programs of `operations`."""
    taps = taps_of(length, "bidirectional")

    def counted(f: Callable[..., jax.Array], *shapes: tuple[int, ...]) -> float:
        operands = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
        analysis: Any = jax.jit(f).lower(*operands).compile().cost_analysis()
        return float(analysis["flops"])

    def convolution(method: str) -> float:
        f = functools.partial(global_conv, boundary="bidirectional", layout="bcl", method=method)
        return counted(f, (BATCH, FEATURES, length), (FEATURES, taps))

    def perceptron(x: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
        return jnp.maximum(x @ up, 0) @ down

    rows, at_once = (BATCH, FEATURES, length), all_scores(length)
    of_heads = (at_once, length, FEATURES // HEAD_SIZE, HEAD_SIZE)
    return {
        "global convolution by FFT": convolution("fft"),
        "global convolution by its sum": convolution("direct"),
        # All its scores at once, as JAX has it: XLA counts a loop over blocks of queries as one turn of it.
        "attention": BATCH // at_once * counted(jax.nn.dot_product_attention, of_heads, of_heads, of_heads),
        f"token perceptron of {HIDDEN} units": counted(perceptron, rows, (length, HIDDEN), (HIDDEN, length)),
        f"dense layer {FEATURES} → {FEATURES}": counted(jnp.matmul, (BATCH * length, FEATURES), (FEATURES, FEATURES)),
    }


def compiled_memory(length: int) -> dict[str, int]:
    """Bytes that XLA gives the value and the gradients of what mixes tokens, and what it keeps for them, on a CPU."""

    def taken(f: Callable[..., jax.Array], *shapes: tuple[int, ...]) -> int:
        def value_and_gradients(dy: jax.Array, *operands: jax.Array) -> Any:
            y, pull = jax.vjp(f, *operands)
            return y, pull(dy)

        operands = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (shapes[0], *shapes))
        memory: Any = jax.jit(value_and_gradients).lower(*operands).compile().memory_analysis()
        return int(memory.temp_size_in_bytes + memory.output_size_in_bytes)

    def of_heads(batch: int) -> list[tuple[int, int, int, int]]:
        return 3 * [(batch, length, FEATURES // HEAD_SIZE, HEAD_SIZE)]

    def convolution(method: str) -> int:
        f = functools.partial(global_conv, boundary="circular", layout="bcl", method=method)
        return taken(f, (BATCH, FEATURES, length), (FEATURES, length))

    at_once = all_scores(length)
    return {
        "convolution by FFT, circular": convolution("fft"),
        "convolution by its sum, circular": convolution("direct"),
        "attention, all scores at once": BATCH // at_once * taken(jax.nn.dot_product_attention, *of_heads(at_once)),
        "attention, some queries at a time": taken(attention, *of_heads(BATCH)),
    }


def measure() -> dict[str, Any]:
    return {
        "lengths": {str(length): flops(length) for length in LENGTHS},
        "fft_pays_from": fft_pays_from(),
        "operations": {
            str(length): {name: list(both) for name, both in operations(length).items()} for length in COMPILED_LENGTHS
        },
        "compiled": {str(length): compiled_flops(length) for length in COMPILED_LENGTHS},
        "memory": {str(length): compiled_memory(length) for length in COMPILED_LENGTHS},
    }


def ratio(record: dict[str, Any], length: int, method: str, i: int) -> float:
    """How many layers of convolution one of attention pays for."""
    at = record["lengths"][str(length)]
    return at["attention"][i] / at[method][i]


def reached(record: dict[str, Any], method: str, i: int, factor: float) -> str:
    """The first length of the table at which attention costs `factor` times as much."""
    for length in LENGTHS:
        if ratio(record, length, method, i) >= factor:
            return "always" if length == LENGTHS[0] else f"{length:,}"
    return f"not by {LENGTHS[-1]:,}"


def table(record: dict[str, Any]) -> str:
    columns = [(method, i) for i in range(len(WITH)) for method in METHODS[1:]]
    heads = [f"{WITH[i]}: ÷ {'direct' if method == 'direct' else 'FFT'}" for method, i in columns]
    lines = [
        "| length | attention, kFLOPs/token | direct | FFT | " + " | ".join(heads) + " |",
        "|---:|" + "---:|" * (3 + len(columns)),
    ]
    for length in LENGTHS:
        own = [f"{record['lengths'][str(length)][method][0] / 1000:,.0f}" for method in METHODS]
        ratios = [f"{ratio(record, length, *column):,.1f}" for column in columns]
        lines.append(f"| {length:,} | " + " | ".join(own + ratios) + " |")
    lines += [
        "",
        f"FLOPs of the forward pass by formula, width {FEATURES}. A ratio is attention's cost over the convolution's:",
        "how many layers of convolution one of attention pays for. The first of these lengths at which it does so for:",
        "",
        "| layers | " + " | ".join(heads) + " |",
        "|---:|" + "---:|" * len(columns),
    ]
    for factor in FACTORS:
        lines.append(f"| {factor} | " + " | ".join(reached(record, *column, factor) for column in columns) + " |")
    lines += ["", f"The FFT costs less than the direct sum from length {record['fft_pays_from']} on."]
    lines += [
        "",
        f"Least memory traffic, forward, of a batch of {BATCH} in float32, width {FEATURES}, kernels bidirectional:",
        "",
        "| length | operation | GFLOP | as compiled | ÷ FFT | least MB moved | FLOPs a byte |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for length, of in record["operations"].items():
        by_fft, _ = of["global convolution by FFT"]
        for name, (arithmetic, moved) in of.items():
            by_xla = record["compiled"][length][name]
            figures = (arithmetic / 1e9, by_xla / 1e9, arithmetic / by_fft, moved / 1e6, arithmetic / moved)
            cells = [f"{figure:.3g}" for figure in figures]
            lines.append(f"| {int(length):,} | {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "As compiled: what XLA counts in its own program for a CPU. It takes a complex transform of N points for",
        "8 N ⌊log₂N⌋ where the formula has 5 N log₂N, no less for a real one forward, where the formula has half,",
        "and counts a softmax and the kernel's transform too.",
        "",
        "Memory with the gradients, by XLA's account of its program for a CPU, in units of the layer's input x:",
        "",
    ]
    names = list(record["memory"][str(COMPILED_LENGTHS[0])])
    lines += ["| length | x, MB | " + " | ".join(names) + " |", "|---:|---:|" + "---:|" * len(names)]
    for length in COMPILED_LENGTHS:
        x = BATCH * length * FEATURES * ITEMSIZE
        cells = [f"{record['memory'][str(length)][name] / x:,.1f}" for name in names]
        lines.append(f"| {length:,} | {x / 1e6:,.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(record: dict[str, Any], path: Path) -> None:
    """FLOPs a token by length, a panel for what is counted; and the depth of convolution that attention pays for."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 4), layout="constrained")
    panels = figure.subplots(1, 4)
    for i, axes in enumerate(panels[:3]):
        for method in METHODS:
            values = [record["lengths"][str(length)][method][i] for length in LENGTHS]
            name = method if method == "attention" else f"convolution, {method}"
            axes.plot(LENGTHS, values, "o-", ms=3, label=name)
        axes.set(title=WITH[i], ylabel="FLOPs a token", yscale="log")
    panels[0].legend()
    low = min(panel.get_ylim()[0] for panel in panels[:3])
    for axes in panels[:3]:
        axes.set_ylim(low, panels[0].get_ylim()[1])
    for i, style in enumerate((":", "--", "-")):
        for method, colour in zip(METHODS[1:], ("C1", "C2"), strict=True):
            values = [ratio(record, length, method, i) for length in LENGTHS]
            panels[3].plot(LENGTHS, values, style, color=colour, label=f"{method}, {WITH[i]}")
    panels[3].set(title="layers of convolution for one of attention", yscale="log")
    panels[3].legend(fontsize=8)
    for axes in panels:
        axes.set_xscale("log", base=2)
        axes.set_xlabel("length")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def define_flags() -> None:
    flags.DEFINE_string("output", None, "folder for the record, the table and the figure")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}")
    folder = cli.output_folder(flags.FLAGS.output)
    record = measure()
    print(table(record))
    if folder is not None:
        write_json(folder / "cost.json", record)
        (folder / "cost.md").write_text(table(record))
        draw(record, folder / "cost.png")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
