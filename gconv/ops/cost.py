"""What the forward pass costs, by formula: arithmetic (FLOPs, a multiply-add as two) and the least memory traffic.

Norms, biases, activations, softmax and embeddings are left out of the arithmetic, as is usual; they are
O(length · features), or of the scores. So is what twists a transform (`gconv.ops.spectral`), 2 to 7% of a convolution
that isn't circular. The least traffic reads every operand once and writes the result once, and holds whatever comes
between in fast memory: no method can move less.
"""

import math
from typing import NamedTuple

from gconv.ops.convolution import MOST_SHIFTS, fft_lags
from gconv.ops.spectral import plan


class Flops(NamedTuple):
    """Of one sequence, with its global convolutions computed as they are run on a CPU, and by their defining sum."""

    fft: float  # few taps are shifted instead (`gconv.ops.convolution`)
    direct: float

    def __add__(self, other: "Flops") -> "Flops":  # type: ignore[override]
        return Flops(self.fft + other.fft, self.direct + other.direct)


NONE = Flops(0, 0)


def dense(length: int, inputs: int, outputs: int) -> Flops:
    """A matrix multiply at each of `length` positions: 2 · length · inputs · outputs."""
    flops = 2.0 * length * inputs * outputs
    return Flops(flops, flops)


def dense_bytes(rows: int, inputs: int, outputs: int, itemsize: int) -> int:
    """(rows, inputs) times (inputs, outputs)."""
    return itemsize * (rows * inputs + inputs * outputs + rows * outputs)


def attention(length: int, features: int) -> Flops:
    """Scores and weighted sum, 4 · length² · features; the projections are `dense`. A mask saves nothing."""
    flops = 4.0 * length**2 * features
    return Flops(flops, flops)


def attention_bytes(batch: int, length: int, features: int, itemsize: int) -> int:
    """q, k, v and the result; no scores, as in FlashAttention (Dao et al. 2022)."""
    return itemsize * 4 * batch * length * features


def token_perceptron(length: int, features: int, hidden: int) -> Flops:
    """MLP-Mixer's over positions, 4 · length · features · hidden."""
    return dense(features, length, hidden) + dense(features, hidden, length)


def token_perceptron_bytes(batch: int, length: int, features: int, hidden: int, itemsize: int) -> int:
    """x, both matrices and the result."""
    return itemsize * (2 * batch * length * features + 2 * length * hidden)


def fft2(length: int, features: int) -> Flops:
    """A complex transform over positions and features, 5 N log₂ N for N points; the same either way of counting."""
    flops = 5.0 * length * features * math.log2(length * features)
    return Flops(flops, flops)


def scan(length: int, states: int) -> Flops:
    """x_t = a ⊙ x_{t−1} + u_t, complex, as a parallel scan (Blelloch 1990): two combinations a position.

    Each is a product, 6, and a sum, 2. The powers of a are made once for a whole batch and left out. The same either
    way of counting.
    """
    flops = 2.0 * 8 * length * states
    return Flops(flops, flops)


def global_conv(length: int, channels: int, taps: int, boundary: str) -> Flops:
    """By FFT: a transform and its inverse, 5 N log₂N each for N complex points, and a complex product for each point.

    A row costs half of its points where its transform is real (see `gconv.ops.spectral`). N is the padded
    length where the operator pads, which it does for a circular boundary too if the length has a large prime factor.
    Directly: 2 · length · taps a channel for a circular boundary; otherwise the taps that meet the sequence, which
    are length² of lags in all for 2 · length − 1 bidirectional taps and half of that for causal ones. The kernel's
    own transform is made once for a whole batch and left out. Up to `MOST_SHIFTS` taps are counted directly both times,
    as they are computed; sequences so short that a CPU multiplies them by a matrix are counted by FFT all the same,
    and so long that it takes paired transforms as twisted ones, of as many points.
    """
    if boundary == "circular":
        products = length * taps
    else:
        reach = taps // 2 if boundary == "bidirectional" else taps - 1  # the largest lag, to either side
        sides = 2 if boundary == "bidirectional" else 1
        products = length + sides * sum(length - lag for lag in range(1, reach + 1))
    direct = 2.0 * channels * products
    if taps <= MOST_SHIFTS:
        return Flops(direct, direct)
    lags, unrolled = fft_lags(length, taps, boundary)
    transform = plan(length, 2 * length - 1 if unrolled else taps, lags)
    return Flops(channels * transform.points_a_row() * (10.0 * math.log2(transform.points) + 6.0), direct)


def global_conv_bytes(batch: int, length: int, channels: int, taps: int, itemsize: int) -> int:
    """x, the kernel and the result: two passes over the activations."""
    return itemsize * (2 * batch * length * channels + taps * channels)
