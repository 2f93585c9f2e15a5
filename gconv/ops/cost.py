"""FLOPs by formula: the forward pass of one sequence, a multiply-add as two.

Norms, biases, activations, softmax and embeddings are left out, as is usual; they are O(length · features).
"""

import math
from typing import NamedTuple

from gconv.ops.spectral import Lags, plan


class Flops(NamedTuple):
    """The same forward pass with its global convolutions computed by FFT, and by their defining sum."""

    fft: float
    direct: float

    def __add__(self, other: "Flops") -> "Flops":  # type: ignore[override]
        return Flops(self.fft + other.fft, self.direct + other.direct)


NONE = Flops(0, 0)


def dense(length: int, inputs: int, outputs: int) -> Flops:
    """A matrix multiply at each of `length` positions: 2 · length · inputs · outputs."""
    flops = 2.0 * length * inputs * outputs
    return Flops(flops, flops)


def attention(length: int, features: int) -> Flops:
    """Scores and weighted sum, 4 · length² · features; the projections are `dense`."""
    flops = 4.0 * length**2 * features
    return Flops(flops, flops)


def fft2(length: int, features: int) -> Flops:
    """A complex transform over positions and features, 5 N log₂ N for N points; the same either way of counting."""
    flops = 5.0 * length * features * math.log2(length * features)
    return Flops(flops, flops)


def global_conv(length: int, channels: int, taps: int, boundary: str) -> Flops:
    """By FFT: a transform and its inverse, 5 N log₂N each for N complex points, and a complex product for each point.

    A row costs half of its points where two rows share one transform (see `gconv.ops.spectral`).
    Directly: 2 · length · taps a channel for a circular boundary; otherwise the taps that meet the sequence, which
    are length² of lags in all for 2 · length − 1 bidirectional taps and half of that for causal ones. The kernel's
    own transform is made once for a whole batch and left out.
    """
    lags = Lags(-(taps // 2) if boundary == "bidirectional" else 0, circular=boundary == "circular")
    transform = plan(2, length, taps, lags)
    fft = channels * transform.points_a_row() * (10.0 * math.log2(max(transform.points, 2)) + 6.0)
    if boundary == "circular":
        products = length * taps
    else:
        reach = taps // 2 if boundary == "bidirectional" else taps - 1  # the largest lag, to either side
        sides = 2 if boundary == "bidirectional" else 1
        products = length + sides * sum(length - lag for lag in range(1, reach + 1))
    return Flops(fft, 2.0 * channels * products)
