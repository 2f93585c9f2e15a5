"""What each way to mix positions costs by formula (`gconv.ops.cost`): nothing here is measured."""

from typing import Any

from gconv.models.kernels import taps_of
from gconv.ops import cost

LENGTHS = (1024, 2048, 4096, 16384)  # of the tasks
BATCH, FEATURES, HIDDEN, ITEMSIZE = 16, 256, 256, 4


def measure() -> list[dict[str, Any]]:
    """One row an operation and length: FLOPs and least memory traffic of the forward pass of a batch."""
    rows = []
    for length in LENGTHS:
        taps = taps_of(length, "bidirectional")
        conv = cost.global_conv(length, FEATURES, taps, "bidirectional")
        moved = cost.global_conv_bytes(BATCH, length, FEATURES, taps, ITEMSIZE)
        found = {
            "global convolution by FFT": (conv.fft, moved),
            "global convolution by its sum": (conv.direct, moved),
            "attention": (
                cost.attention(length, FEATURES).fft,
                cost.attention_bytes(BATCH, length, FEATURES, ITEMSIZE),
            ),
            f"token perceptron of {HIDDEN} units": (
                cost.token_perceptron(length, FEATURES, HIDDEN).fft,
                cost.token_perceptron_bytes(BATCH, length, FEATURES, HIDDEN, ITEMSIZE),
            ),
            f"dense layer {FEATURES} → {FEATURES}": (
                cost.dense(length, FEATURES, FEATURES).fft,
                cost.dense_bytes(BATCH * length, FEATURES, FEATURES, ITEMSIZE),
            ),
        }
        rows += [
            {"length": length, "operation": name, "flops": BATCH * flops, "bytes": moved}
            for name, (flops, moved) in found.items()
        ]
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"Forward pass of a batch of {BATCH}, {FEATURES} features, float32; bidirectional kernels of all lags.",
        "",
        "| length | operation | GFLOP | ÷ FFT | least MB moved | FLOPs a byte |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    by_fft = {row["length"]: row["flops"] for row in rows if row["operation"].endswith("FFT")}
    for row in rows:
        lines.append(
            f"| {row['length']} | {row['operation']} | {row['flops'] / 1e9:.3g} |"
            f" {row['flops'] / by_fft[row['length']]:.3g} | {row['bytes'] / 1e6:.3g} |"
            f" {row['flops'] / row['bytes']:.3g} |"
        )
    return "\n".join(lines)
