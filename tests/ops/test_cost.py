"""The formulas against brute counts and against XLA's own analysis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gconv.ops import attention as attention_op
from gconv.ops import cost
from gconv.ops.convolution import BOUNDARIES, mixing_matrix


def counted_by_xla(f, *shapes):
    analysis = jax.jit(f).lower(*(jnp.zeros(shape) for shape in shapes)).compile().cost_analysis()
    return analysis["flops"]


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("taps", [1, 3, 7])
def test_direct_convolution_counts_every_product(boundary, taps):
    length = 7
    entries = int(np.count_nonzero(mixing_matrix(jnp.ones((taps, 1)), length, boundary)))
    assert cost.global_conv(length, 5, taps, boundary).direct == 2 * 5 * entries


def test_full_bidirectional_and_circular_kernels_cost_length_squared():
    assert cost.global_conv(64, 3, 127, "bidirectional").direct == 2 * 64**2 * 3
    assert cost.global_conv(64, 3, 64, "circular").direct == 2 * 64**2 * 3


def test_fft_convolution_grows_as_n_log_n():
    # two transforms of 5 N log₂N and N products of 6 FLOPs: for two rows around the circle, for one row of a causal one
    assert cost.global_conv(1024, 2, 1024, "circular").fft == 2 * (2 * 5 * 1024 * 10 + 6 * 1024) / 2
    assert cost.global_conv(1024, 2, 1024, "causal").fft == 2 * (2 * 5 * 1024 * 10 + 6 * 1024)
    # few taps: two rows share one transform of the padded length
    assert cost.global_conv(1000, 2, 25, "causal").fft == 2 * (2 * 5 * 1024 * 10 + 6 * 1024) / 2


def test_dense_and_attention_agree_with_xla():
    counted = counted_by_xla(lambda x, w: x @ w, (128, 32), (32, 64))
    assert counted == pytest.approx(cost.dense(128, 32, 64).fft, rel=0.01)
    shape = (1, 256, 2, 64)
    counted = counted_by_xla(attention_op.attention, shape, shape, shape)
    assert counted == pytest.approx(cost.attention(256, 128).fft, rel=0.1)  # XLA counts the softmax too
