"""Depthwise convolution with one kernel per channel, as long as the sequence."""

from typing import Any

import jax
import jax.numpy as jnp

from gconv.ops.hardware import cuda_capability
from gconv.ops.spectral import Lags, convolve

BOUNDARIES = ("circular", "causal", "bidirectional")
METHODS = ("auto", "fft", "matmul", "fused", "shift", "direct", "matrix")
LAYOUTS = ("blc", "bcl")


def global_conv(
    x: jax.Array, kernel: jax.Array, *, boundary: str = "circular", layout: str = "blc", method: str = "auto"
) -> jax.Array:
    """Convolves every channel of `x` with a kernel of its own.

    What is summed depends on the boundary (L = length, K = taps):

        circular       y[t, c] = Σ_{k<K} kernel[k, c] · x[(t + k) mod L, c]          K ≤ L
        causal         y[t, c] = Σ_{k<K} kernel[k, c] · x[t − k, c]                  K ≤ L
        bidirectional  y[t, c] = Σ_s kernel[t − s + R, c] · x[s, c],  R = (K − 1)/2  K odd, K ≤ 2L − 1

    The last two take x as zero beyond its ends. 2L − 1 bidirectional taps cover every lag −(L−1)..L−1.
    Devices that share x need no `jax.shard_map`; inside one the gradient wants its `check_vma=False`.

    Args:
      x: (batch, length, channels), or (batch, channels, length) for layout "bcl"; float16, bfloat16, float32 or
        float64.
      kernel: (taps, channels), or (channels, taps) for layout "bcl"; floating.
      boundary: "circular", "causal" or "bidirectional".
      layout: "blc", or "bcl", which FFTs take without a transpose and so faster.
      method: "fft" multiplies spectra, O(L log L) a channel, in float32 (float64 for float64 input);
        "matmul" does so too, with each transform as two matrix products of full precision, O(L √L) a channel: for a
        TPU, where it hasn't been timed (it takes 6 to 21 times as long as "fft" on 2 CPU cores, 2 to 5 on an H100);
        "fused" does so in one Pallas kernel for a GPU (`gconv.ops.fused`), for lengths that are a power of two from 256
        to 16384 (of float32, more than 4096 don't fit an H100), to which others are padded, but around a circle; it
        reads and writes x's dtype, and is interpreted elsewhere. Beside the norms of x and kernel its error is
        bfloat16's rounding; around a circle it takes two rows as one, so that what isn't finite in one spoils the
        other, and inside a `jax.shard_map` it wants `check_vma=False`;
        "shift" adds K shifted copies of x, O(L K); "direct" is `jax.lax.conv_general_dilated`, O(L K);
        "matrix" multiplies by the L × L mixing matrix, O(L²) a channel; "auto" picks what is fastest
        forward and backward on the whole, of "fft", "shift", "matrix" and, for bfloat16 on a GPU like an H100, "fused"
        (`fastest_method`).

    Returns:
      y: of x's shape and dtype.

    Raises:
      ValueError: for a wrong rank, mismatched channels, taps outside the ranges above, a dtype that isn't
        floating, or an unknown boundary, layout or method.
    """
    _check(x, kernel, boundary, layout, method)
    length = x.shape[layout.index("l")]
    if method == "auto":
        method = fastest_method(kernel.shape[0 if layout == "blc" else 1], length, x.dtype, boundary)
    if method == "fused":
        padded = fused_length(length, boundary)
        if not padded or x.dtype == jnp.float64:
            raise ValueError(
                f"method fused takes lengths up to {LONGEST_FUSED}, around a circle powers of two from {SHORTEST_FUSED}"
                f" on, and no float64; got length {length}, {x.dtype}"
            )
        ends = [(0, padded - length if axis == "l" else 0) for axis in layout]
        kernel = (kernel.T if layout == "blc" else kernel).astype(jnp.float32)
        y = _fft(jnp.pad(x, ends), kernel, boundary, layout, method="fused")
        return jax.lax.slice_in_dim(y, 0, length, axis=layout.index("l"))
    dtype = jnp.promote_types(jnp.promote_types(x.dtype, kernel.dtype), jnp.float32)
    x, kernel, out = x.astype(dtype), (kernel.T if layout == "blc" else kernel).astype(dtype), x.dtype
    if method in ("fft", "matmul"):
        return _fft(x, kernel, boundary, layout, method=method).astype(out)
    apply = {"shift": _shift, "direct": _direct, "matrix": _matrix}[method]
    if layout == "blc":
        return jnp.swapaxes(apply(jnp.swapaxes(x, 1, 2), kernel, boundary), 1, 2).astype(out)
    return apply(x, kernel, boundary).astype(out)


def _check(x: jax.Array, kernel: jax.Array, boundary: str, layout: str, method: str) -> None:
    for name, value, known in (
        ("boundary", boundary, BOUNDARIES),
        ("layout", layout, LAYOUTS),
        ("method", method, METHODS),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
    if x.ndim != 3:
        axes = "(batch, length, channels)" if layout == "blc" else "(batch, channels, length)"
        raise ValueError(f"x must be {axes}; got shape {x.shape}")
    if kernel.ndim != 2:
        axes = "(taps, channels)" if layout == "blc" else "(channels, taps)"
        raise ValueError(f"kernel must be {axes}; got shape {kernel.shape}")
    for name, array in (("x", x), ("kernel", kernel)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name} must be floating; got dtype {array.dtype}")
    if layout == "blc":
        (_, length, channels), (taps, kernel_channels) = x.shape, kernel.shape
    else:
        (_, channels, length), (kernel_channels, taps) = x.shape, kernel.shape
    if channels != kernel_channels:
        raise ValueError(f"kernel has {kernel_channels} channels, x has {channels}: {kernel.shape} against {x.shape}")
    most = 2 * length - 1 if boundary == "bidirectional" else length
    if not 1 <= taps <= most:
        raise ValueError(
            f"kernel must have 1 to {most} taps for a {boundary} boundary over length {length};"
            f" got {taps}: kernel {kernel.shape}, x {x.shape}"
        )
    if boundary == "bidirectional" and taps % 2 == 0:
        raise ValueError(f"kernel must have an odd number of taps, lag 0 in the middle; got shape {kernel.shape}")


def fastest_method(taps: int, length: int, dtype: Any, boundary: str) -> str:
    """What "auto" takes for x of a dtype."""
    backend = jax.default_backend()
    padded = fused_length(length, boundary)
    worth_it = 0 < padded <= min(LONGEST_FASTER_FUSED, MOST_PADDED * length)
    fused = worth_it and dtype == jnp.bfloat16 and 9.0 <= cuda_capability() < 12.0
    if backend != "gpu":
        most_shifts = MOST_SHIFTS
    else:
        most_shifts = MOST_SHIFTS_BESIDE_FUSED if fused and padded <= LONGEST_MUCH_FASTER_FUSED else MOST_SHIFTS_ON_GPU
    if taps <= most_shifts:
        return "shift"
    if fused:
        return "fused"
    return "matrix" if length <= LONGEST_MATRIX and backend == "cpu" else "fft"


# The fused kernel's lengths: 16 × 16 is the least that matrix units take, 128 × 128 what shared memory holds. From
# compute capability 12.0 on, where no GPU has half as much of it, it hasn't been tried.
SHORTEST_FUSED, LONGEST_FUSED = 256, 16384
# Forward and gradient of bfloat16 on an H100, layout "bcl" (experiments/records/benchmark/h100/fused_by_length.md): it
# takes, bidirectional, 0.5 to 0.6 of the FFT's time from 1024 to 4096, 0.7 at 8192 and 1.5 at 16384, and around the
# circle 0.4 at 4096; an earlier form of it 0.2 to 0.3 at 256.
LONGEST_FASTER_FUSED, LONGEST_MUCH_FASTER_FUSED = 8192, 4096
# Its time grows with the length that it is padded to, where the FFT's stays. Not timed: some passes over memory more.
MOST_PADDED = 1.25


def fused_length(length: int, boundary: str) -> int:
    """The power of two that the fused kernel takes so many positions at, zeros behind them; 0 if it takes none."""
    padded = max(SHORTEST_FUSED, 1 << (length - 1).bit_length())
    return padded if padded <= LONGEST_FUSED and (padded == length or boundary != "circular") else 0


# Forward and gradient on 2 CPU cores, layout "bcl", lengths 16 to 65536: shifting takes 0.8 to 1.3 times the time of
# the FFT at 4 taps, 1.4 to 3.2 at 8, 3.0 to 7.8 at 16; forward alone 0.1 to 0.7 at any of them; `direct` 8 to 20 at 4
# (experiments/records/benchmark/ops.md).
MOST_SHIFTS = 4
# On an H100, float32, lengths 256 to 16384: 0.2 at 4 taps, 0.2 to 0.3 at 8, 0.3 to 0.5 at 16; `direct` 2 to 2.5 at 4.
# These are of an earlier form of `_shift`, which summed a tap's gradient at once.
MOST_SHIFTS_ON_GPU = 16
# Beside an earlier form of the fused kernel in bfloat16, at 256 to 4096, that time in float32 is 0.5 to 0.9 at 8 taps,
# 1.0 to 1.8 at 16.
MOST_SHIFTS_BESIDE_FUSED = 8
# On 2 CPU cores, 64 channels, batches of 32 to 8192: the matrix takes 0.3 to 0.9 of the FFT's time up to length 16, 0.5
# to 1.3 at 32 and 0.5 to 2.7 from 48 to 64; in the benchmark's record, of 4096 rows, 0.95 at 16. Not chosen on
# accelerators, where it hasn't been timed.
LONGEST_MATRIX = 16

# Kernels are (channels, taps) from here on, but mixing_matrix's; x is of the layout in _fft, (batch, channels, length)
# in the others. Both are float32 or float64, x for the fused kernel also of 16 bits.


def _fft(x: jax.Array, kernel: jax.Array, boundary: str, layout: str, method: str) -> jax.Array:
    length = x.shape[layout.index("l")]
    lags, unrolled = fft_lags(length, kernel.shape[1], boundary)
    if unrolled:
        around = jnp.pad(kernel, ((0, 0), (0, length - kernel.shape[1])))
        kernel = jnp.concatenate([around[:, 1:], around], axis=1)
    return convolve(x, kernel, lags, layout, method)


def fft_lags(length: int, taps: int, boundary: str) -> tuple[Lags, bool]:
    """The lags that an FFT gets a kernel's taps at; and whether the circle is unrolled for it.

    That is the same sum without a circle, whose transform may be padded: each tap at two lags, L apart, 2L − 1 in all.
    """
    if boundary != "circular":
        return Lags(-(taps // 2) if boundary == "bidirectional" else 0, circular=False), False
    unrolled = largest_prime_factor(length) > LARGEST_FAST_PRIME
    # tap k stands for lag −k
    return Lags(1 - length if unrolled else 0, circular=not unrolled, mirrored=True), unrolled


def _shift(x: jax.Array, kernel: jax.Array, boundary: str) -> jax.Array:
    taps, (batch, channels, length) = kernel.shape[1], x.shape
    blocks = -(-length // SUMMED_AT_ONCE)
    block = -(-length // blocks)
    padded = blocks * block
    if boundary == "circular":
        x = jnp.concatenate([x, x[..., : taps - 1], jnp.zeros((batch, channels, padded - length), x.dtype)], axis=2)
    else:
        kernel = kernel[:, ::-1]
        before = taps - 1 if boundary == "causal" else taps // 2
        x = jnp.pad(x, ((0, 0), (0, 0), (before, padded - length + taps - 1 - before)))
    # Each block has its copy of the kernel, whose gradient is summed in the block first and over blocks then: over
    # 65,536 tokens at once the benchmark's had an error of 3e-6. Without the barrier XLA makes one sum of both.
    copies = jax.lax.optimization_barrier(jnp.broadcast_to(kernel[:, :, None], (channels, taps, blocks)))
    shifted = (x[..., k : k + padded].reshape(batch, channels, blocks, block) for k in range(taps))
    y = sum((copies[:, k, :, None] * part for k, part in enumerate(shifted)), start=jnp.zeros((), x.dtype))
    return y.reshape(batch, channels, padded)[..., :length]


# Tokens, at most, in a block: with it the error over one row of 65,536 is 2e-7.
SUMMED_AT_ONCE = 512


def _direct(x: jax.Array, kernel: jax.Array, boundary: str) -> jax.Array:
    channels, taps = kernel.shape
    if boundary == "circular":
        x, padding = jnp.concatenate([x, x[..., : taps - 1]], axis=2), (0, 0)
    else:  # conv_general_dilated correlates
        kernel, padding = kernel[:, ::-1], (taps - 1, 0) if boundary == "causal" else (taps // 2, taps // 2)
    return jax.lax.conv_general_dilated(
        x,
        kernel[:, None],
        window_strides=(1,),
        padding=(padding,),
        dimension_numbers=("NCW", "OIW", "NCW"),
        feature_group_count=channels,
        precision=jax.lax.Precision.HIGHEST,
    )


def _matrix(x: jax.Array, kernel: jax.Array, boundary: str) -> jax.Array:
    return jnp.einsum("tsc,bcs->bct", mixing_matrix(kernel.T, x.shape[2], boundary), x, precision="highest")


def mixing_matrix(kernel: jax.Array, length: int, boundary: str) -> jax.Array:
    """The matrix of each channel that `global_conv` multiplies by: M[t, s, c], with y[t, c] = Σ_s M[t, s, c] x[s, c].

    kernel (taps, channels) → (length, length, channels). Circulant for a circular boundary, otherwise Toeplitz.
    """
    t, s = jnp.arange(length)[:, None], jnp.arange(length)[None, :]
    taps = kernel.shape[0]
    tap = {"circular": (s - t) % length, "causal": t - s, "bidirectional": t - s + taps // 2}[boundary]
    inside = (tap >= 0) & (tap < taps)
    return jnp.where(inside[..., None], kernel[jnp.clip(tap, 0, taps - 1)], 0)


# A circular transform has the sequence's own length. Forward and gradient on 2 CPU cores, it takes 0.6 to 0.9 times the
# padded one's time with prime factors up to 509, and 1.2 and 1.6 times at the primes 1009 and 4093.
LARGEST_FAST_PRIME = 1000


def largest_prime_factor(n: int) -> int:
    """Of n ≥ 1; 1 has none and gives 1."""
    factor, largest = 2, 1
    while n > 1:
        if n % factor:
            factor += 1
        else:
            n, largest = n // factor, factor
    return largest
