"""The formulas against brute counts and against XLA's own analysis."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gconv.models.mixers import GatedGlobalConv, MlpMixer
from gconv.models.mixers.state_space import _scan
from gconv.ops import attention as attention_op
from gconv.ops import cost, spectral
from gconv.ops.convolution import BOUNDARIES, MOST_SHIFTS, global_conv, mixing_matrix
from gconv.ops.spectral import smooth_length

# XLA counts 8 N ⌊log₂N⌋ for a complex transform of N points, where the usual count is 5 N log₂N.
BY_XLA = 8 / 5


def compiled(f, *shapes, dtype=jnp.float32):
    return jax.jit(f).lower(*(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)).compile()


def counted(f, *shapes, dtype=jnp.float32):
    return compiled(f, *shapes, dtype=dtype).cost_analysis()["flops"]


def read_and_written(f, *shapes):
    memory = compiled(f, *shapes).memory_analysis()
    return memory.argument_size_in_bytes + memory.output_size_in_bytes


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
    # two transforms of 5 N log₂N and N products of 6 FLOPs: half of that for real ones around the circle
    assert cost.global_conv(1024, 2, 1024, "circular").fft == 2 * (2 * 5 * 1024 * 10 + 6 * 1024) / 2
    assert cost.global_conv(1024, 2, 1024, "causal").fft == 2 * (2 * 5 * 1024 * 10 + 6 * 1024)
    # few taps: a real transform of the padded length
    assert cost.global_conv(1000, 2, 25, "causal").fft == 2 * (2 * 5 * 1024 * 10 + 6 * 1024) / 2


def test_a_circle_of_a_large_prime_costs_what_its_padded_transform_does():
    prime = cost.global_conv(4093, 2, 4093, "circular")
    assert prime.fft == cost.global_conv(4096, 2, 4096, "causal").fft and smooth_length(4093) == 4096
    assert cost.global_conv(4092, 2, 4092, "circular").fft < prime.fft / 1.9
    assert prime.direct == 2 * 2 * 4093**2


@pytest.mark.parametrize("longest", [0, 10**6])
def test_flops_do_not_depend_on_the_form_that_this_machine_takes(longest, monkeypatch):
    monkeypatch.setattr(spectral, "LONGEST_TWISTED", longest)
    assert cost.global_conv(3375, 1, 3375, "causal").fft == 2 * 5 * 3375 * math.log2(3375) + 6 * 3375


def test_few_taps_cost_their_products_alone():
    few, more = (cost.global_conv(1024, 2, taps, "causal") for taps in (MOST_SHIFTS, MOST_SHIFTS + 1))
    assert few.fft == few.direct and more.fft > more.direct


def test_xla_counts_a_transform_by_the_same_formula_but_for_its_constant():
    assert counted(jnp.fft.fft, (3, 1024), dtype=jnp.complex64) == 3 * 8 * 1024 * 10


@pytest.mark.parametrize("length, boundary", [(1024, "circular"), (1024, "causal"), (2039, "circular")])
def test_fft_convolution_agrees_with_xla(length, boundary):
    def f(x, kernel):
        return global_conv(x, kernel, boundary=boundary, layout="bcl", method="fft")

    def rows(count):
        return counted(f, (count, 8, length), (8, length))

    formula, points = cost.global_conv(length, 8, length, boundary).fft, smooth_length(length)
    real = (length, boundary) == (1024, "circular")
    products = 8 * 6 * (points / 2 if real else points)
    # XLA counts a real transform by the points that go in: all there, and half of them back.
    by_xla = BY_XLA * (formula - products) * (1.5 if real else 1) + products
    assert (rows(8) - rows(4)) / 4 == pytest.approx(by_xla, rel=0.05)  # the kernel's transform cancels out


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("taps", [5, 127])
def test_direct_convolution_agrees_with_xla(boundary, taps):
    taps = min(taps, 64) if boundary != "bidirectional" else taps

    def f(x, kernel):
        return global_conv(x, kernel, boundary=boundary, layout="bcl", method="direct")

    formula = cost.global_conv(64, 3, taps, boundary).direct
    assert counted(f, (2, 3, 64), (3, taps)) == 2 * formula


def test_the_mixing_matrix_costs_length_squared_in_xla_too():
    def multiply(matrix, x):
        return jnp.einsum("tsc,bsc->btc", matrix, x)

    formula = cost.global_conv(64, 3, 127, "bidirectional").direct
    assert counted(multiply, (64, 64, 3), (2, 64, 3)) == 2 * formula


def test_dense_layers_and_attention_agree_with_xla():
    assert counted(lambda x, w: x @ w, (128, 32), (32, 64)) == cost.dense(128, 32, 64).fft
    shape = (1, 256, 2, 64)
    by_xla = counted(attention_op.attention, shape, shape, shape)
    assert by_xla == pytest.approx(cost.attention(256, 128).fft, rel=0.1)  # XLA counts the softmax too


def test_a_token_perceptron_agrees_with_xla():
    mixer = MlpMixer(32, 256, hidden=64, dropout=0.0, dtype=jnp.float32, rngs=nnx.Rngs(0))
    assert counted(mixer, (1, 32, 256)) == pytest.approx(mixer.flops(256).fft, rel=0.1)  # XLA counts GELU and biases


def test_a_fourier_mixers_transforms_agree_with_xla():
    def f(x):  # fft2 itself XLA counts as the product of both logarithms
        return jnp.fft.fft(jnp.fft.fft(x, axis=1), axis=0)

    assert counted(f, (256, 64), dtype=jnp.complex64) == BY_XLA * cost.fft2(256, 64).fft


def test_a_scan_agrees_with_xla():
    def rows(count):
        shapes = [jax.ShapeDtypeStruct(shape, jnp.complex64) for shape in ((16,), (count, 1024, 16))]
        return jax.jit(_scan).lower(*shapes).cost_analysis()["flops"]

    # For XLA a complex product or sum is 1, not 6 or 2; one more sum a combination puts odd and even together.
    assert rows(3) - rows(2) == pytest.approx(cost.scan(1024, 16).fft * (1 + 1 + 1) / (6 + 2), rel=0.01)


def test_a_short_convolution_costs_a_gated_mixer_its_shifts():
    mixer = GatedGlobalConv(8, 64, boundary="causal", dropout=0.0, dtype=jnp.float32, rngs=nnx.Rngs(0))
    parts = cost.dense(64, 8, 32) + cost.global_conv(64, 8, 64, "causal") + cost.global_conv(64, 24, 3, "causal")
    assert mixer.flops(64) == parts
    assert parts.fft - cost.dense(64, 8, 32).fft - cost.global_conv(64, 8, 64, "causal").fft == 2 * 24 * (64 + 63 + 62)


def test_the_least_traffic_is_what_a_program_reads_and_writes():
    conv = read_and_written(lambda x, k: global_conv(x, k, method="fft"), (4, 64, 3), (64, 3))
    assert conv == cost.global_conv_bytes(4, 64, 3, 64, 4)
    shape = (2, 64, 4, 8)
    assert read_and_written(attention_op.attention, shape, shape, shape) == cost.attention_bytes(2, 64, 32, 4)
    assert read_and_written(lambda x, w: x @ w, (128, 32), (32, 64)) == cost.dense_bytes(128, 32, 64, 4)
    perceptron = read_and_written(lambda x, up, down: jax.nn.gelu(x @ up) @ down, (2, 32, 64), (64, 16), (16, 64))
    assert perceptron == cost.token_perceptron_bytes(2, 64, 32, 16, 4)


def test_xla_moves_the_least_for_a_product_and_more_for_all_else():
    def accessed(f, *shapes):
        return compiled(f, *shapes).cost_analysis()["bytes accessed"]

    assert accessed(lambda x, w: x @ w, (128, 32), (32, 64)) == cost.dense_bytes(128, 32, 64, 4)
    shape = (1, 256, 2, 64)
    scores = 4 * 2 * 256**2
    assert accessed(attention_op.attention, shape, shape, shape) > cost.attention_bytes(1, 256, 128, 4) + 2 * scores
    least = cost.global_conv_bytes(4, 256, 8, 256, 4)
    by_fft = accessed(lambda x, k: global_conv(x, k, method="fft"), (4, 256, 8), (256, 8))
    assert 2 * least < by_fft  # the spectrum is written and read too
    perceptron = accessed(lambda x, up, down: jax.nn.gelu(x @ up) @ down, (2, 32, 64), (64, 16), (16, 64))
    hidden = 4 * 2 * 32 * 16
    assert perceptron >= cost.token_perceptron_bytes(2, 64, 32, 16, 4) + 2 * hidden
